//! The size at which a text takes a wanted number of vision tokens.

use super::{
    style::{Arrangement, Style},
    typesetter::{Typeset, Typesetter},
};
use crate::Page;
use deepseek_ocr_core::{Error, Mode, Result};

/// Sizes are tried in quarters of a pixel.
const STEPS: f32 = 4.0;

/// The smallest and the largest size that is chosen: below, letters run together.
const SMALLEST: u32 = 5 * STEPS as u32;
const LARGEST: u32 = 96 * STEPS as u32;

/// Lines and characters to a vision token, from the roomiest to the densest.
const CELLS: [(u32, u32); 10] = [(1, 2), (1, 3), (2, 4), (2, 5), (3, 6), (3, 7), (4, 8), (4, 10), (5, 12), (6, 14)];

/// How much a text shall be compressed; see [`Page::typeset_to_fit`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Compression {
    /// The mode in which the pages will be encoded.
    pub mode: Mode,
    /// Text tokens for one vision token, at least.
    pub ratio: f64,
    /// Tokens of the text as the model's tokenizer counts them.
    pub text_tokens: usize,
}

/// Text set at the size that was chosen for it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Fitted {
    /// The pages.
    pub typeset: Typeset,
    /// The style with the size that was chosen.
    pub style: Style,
    /// Vision tokens of the pages.
    pub vision_tokens: usize,
    /// Text tokens for one vision token: as wanted or more, but for a text that is too short to fill even one page.
    pub ratio: f64,
}

impl Compression {
    /// `ratio` text tokens for a vision token, for a text of so many tokens.
    pub const fn new(mode: Mode, ratio: f64, text_tokens: usize) -> Self {
        Self { mode, ratio, text_tokens }
    }

    /// The most pages, each of so many vision tokens, at which the ratio is reached; never none.
    fn pages(&self, page_tokens: usize) -> usize {
        ((self.text_tokens as f64 / self.ratio / page_tokens as f64) as usize).max(1)
    }
}

pub(crate) fn typeset_to_fit(text: &str, style: &Style, wanted: Compression) -> Result<Fitted> {
    let Compression { mode, ratio, text_tokens } = wanted;
    if !(ratio.is_finite() && ratio > 0.0) {
        return Err(Error::invalid_request("ratio", ratio, "a positive number"));
    }
    let style = style.clone().with_mode(mode);
    let page_tokens = mode.vision_tokens(style.width, style.height);
    let most = wanted.pages(page_tokens);
    let candidates = candidates(&style);
    let fits = |style: &Style| match Typesetter::count_pages(text, style) {
        Ok(pages) => Ok(pages <= most),
        // The page is too small for a single line: at a smaller size it may not be.
        Err(Error::InvalidStyle { field: "each column" | "the space between the margins", .. }) => Ok(false),
        Err(error) => Err(error),
    };
    let mut large = 0;
    let mut small = candidates.len();
    // Smaller text takes fewer pages; where a line breaks worse at a smaller size, the search ends at another size that fits.
    while large < small {
        let middle = (large + small) / 2;
        if fits(&candidates[middle])? { small = middle } else { large = middle + 1 }
    }
    let Some(style) = candidates.into_iter().nth(small) else {
        // Says what is wrong with a style that fits no page at all.
        let smallest = smallest(&style);
        let pages = Typesetter::count_pages(text, &smallest)?.max(1);
        let reached = text_tokens as f64 / (pages * page_tokens) as f64;
        let expected = format!("at most {reached:.2}, which the text has at the smallest size");
        return Err(Error::invalid_request("ratio", ratio, expected));
    };
    let typeset = Page::typeset(text, &style)?;
    let vision_tokens = typeset.pages().len() * page_tokens;
    let ratio = text_tokens as f64 / vision_tokens.max(1) as f64;
    Ok(Fitted { typeset, style, vision_tokens, ratio })
}

/// Styles from the largest size to the smallest.
fn candidates(style: &Style) -> Vec<Style> {
    match style.arrangement {
        Arrangement::Aligned { .. } => CELLS.map(|(lines, wide)| style.clone().with_aligned(lines, wide)).to_vec(),
        Arrangement::Blocks { .. } => CELLS.map(|(lines, wide)| style.clone().with_blocks(lines, wide)).to_vec(),
        Arrangement::Flow { .. } => {
            let sizes = (SMALLEST..=LARGEST).rev();
            sizes.map(|quarters| style.clone().with_size(quarters as f32 / STEPS)).collect()
        }
    }
}

fn smallest(style: &Style) -> Style {
    candidates(style).pop().unwrap_or_else(|| style.clone())
}
