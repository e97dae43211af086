//! Text that grows, on pages that follow.

use super::{
    compose::{Composer, Line, Tools},
    font::Font,
    frame::Frame,
    paint::Painter,
    shape::Shaper,
    style::Style,
};
use crate::Page;
use deepseek_ocr_core::Result;
use std::{fmt, ops::Range};

/// A page of typeset text and what is on it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TypesetPage {
    /// The image.
    pub page: Page,
    /// Bytes of the text that the page holds. Those of all pages follow each other without a gap.
    pub range: Range<usize>,
    /// Bytes of each line, without the white space at its end: joined by line feeds, what a reader of the page writes. In blocks
    /// lines are whole, and a reader writes one after the other.
    pub lines: Vec<Range<usize>>,
}

/// A character that the pages do not show as it should be.
///
/// No font of the style can draw it, and a box or blank space stands in its place; or it is wider than a column, and its end is
/// cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Missing {
    /// The character.
    pub character: char,
    /// Its byte in the text.
    pub at: usize,
}

/// Text on pages, set in one [`Style`]; see [`Page::typeset`](crate::Page::typeset).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Typeset {
    pages: Vec<TypesetPage>,
    missing: Vec<Missing>,
}

/// Sets text that grows: what is added changes only the lines that it must change, and only their rows are drawn anew.
///
/// The result is that of setting the whole text at once, to the pixel.
///
/// ```
/// use deepseek_ocr_preprocess::{Style, Typesetter};
///
/// let mut typesetter = Typesetter::new(Style::default())?;
/// assert_eq!(typesetter.push_str("The first line, "), 0..1);
/// assert_eq!(typesetter.push_str("its end\nand a second one"), 0..1);
/// assert_eq!(typesetter.pages()[0].lines.len(), 2);
/// # Ok::<(), deepseek_ocr_core::Error>(())
/// ```
pub struct Typesetter {
    frame: Frame,
    shaper: Shaper,
    painter: Painter,
    text: String,
    composer: Composer,
    pages: Vec<TypesetPage>,
}

impl Typesetter {
    /// An empty text in this style.
    ///
    /// # Errors
    /// [`Error::InvalidStyle`](deepseek_ocr_core::Error::InvalidStyle), naming the setting and what it may be.
    pub fn new(style: Style) -> Result<Self> {
        let frame = Frame::new(&style)?;
        let fonts = with_embedded(&style.fonts);
        Ok(Self {
            shaper: Shaper::new(fonts.clone(), &frame),
            painter: Painter::new(&style, fonts),
            frame,
            text: String::new(),
            composer: Composer::default(),
            pages: Vec::new(),
        })
    }

    /// Adds text and says which pages changed; new ones are among them.
    ///
    /// The cost is that of what is added, however much text there is before it.
    pub fn push_str(&mut self, text: &str) -> Range<usize> {
        self.text.push_str(text);
        let (kept, old) = self.compose();
        let same = old.iter().zip(&self.composer.lines[kept..]).take_while(|(old, new)| looks_like(old, new)).count();
        self.paint(kept + same, &old[same..])
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its pages.
    pub fn pages(&self) -> &[TypesetPage] {
        &self.pages
    }

    /// What could not be drawn; see [`Missing`].
    pub fn missing(&self) -> &[Missing] {
        &self.composer.missing
    }

    /// The pages, taken out.
    pub fn finish(self) -> Typeset {
        Typeset { pages: self.pages, missing: self.composer.missing }
    }

    /// How many pages `text` takes in this style; nothing is drawn.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn count_pages(text: &str, style: &Style) -> Result<usize> {
        let mut typesetter = Self::new(style.clone())?;
        typesetter.text.push_str(text);
        typesetter.compose();
        Ok(typesetter.page_count())
    }

    /// Sets what was added; the first line that may have changed, and the lines that were from it on.
    fn compose(&mut self) -> (usize, Vec<Line>) {
        let Self { frame, shaper, text, composer, .. } = self;
        composer.extend(text, Tools { frame, shaper })
    }

    fn page_count(&self) -> usize {
        self.composer.lines.last().map_or(0, |line| line.slot / self.frame.slots() + 1)
    }

    /// Brings the pages up to date from line `changed` on, in whose place `old` lines were.
    fn paint(&mut self, changed: usize, old: &[Line]) -> Range<usize> {
        let slots = self.frame.slots();
        let before = self.pages.len();
        let count = self.page_count();
        self.pages.truncate(count);
        let first_new = self.composer.lines.get(changed).into_iter();
        let first = first_new.chain(old.first()).map(|line| line.slot / slots).min().unwrap_or(count).min(count);
        for index in first..count {
            let of_page = |lines: &[Line]| {
                let below = |page: usize| lines.partition_point(|line| line.slot < page * slots);
                below(index)..below(index + 1)
            };
            let range = of_page(&self.composer.lines);
            let lines = &self.composer.lines[range.clone()];
            let changed = changed.clamp(range.start, range.end) - range.start;
            match self.pages.get_mut(index) {
                Some(page) => {
                    self.painter.repaint(&mut page.page, lines, &self.frame, (changed, &old[of_page(old)]));
                    page.lines.truncate(changed);
                }
                None => {
                    let page = self.painter.page(lines, &self.frame);
                    self.pages.push(TypesetPage { page, range: 0..0, lines: Vec::new() });
                }
            }
            let page = &mut self.pages[index];
            let from = page.lines.len();
            page.lines.extend(lines[from..].iter().map(|line| line.range.start..line.text_end));
            let start = if index == 0 { 0 } else { lines.first().map_or(0, |line| line.range.start) };
            page.range = start..lines.last().map_or(start, |line| line.range.end);
        }
        first.min(before.min(count))..count
    }
}

impl Missing {
    /// A character that is not drawn, at a byte of the text.
    pub const fn new(character: char, at: usize) -> Self {
        Self { character, at }
    }
}

impl Typeset {
    /// The pages in their order; none for a text without any character.
    pub fn pages(&self) -> &[TypesetPage] {
        &self.pages
    }

    /// The images alone.
    pub fn into_pages(self) -> Vec<Page> {
        self.pages.into_iter().map(|page| page.page).collect()
    }

    /// What could not be drawn, in the order of the text; see [`Missing`].
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }
}

/// Whether two lines have the same pixels and hold the same text.
fn looks_like(old: &Line, new: &Line) -> bool {
    (old.slot, &old.range, old.text_end) == (new.slot, &new.range, new.text_end) && old.glyphs == new.glyphs
}

/// The fonts of a style and behind them the embedded ones.
fn with_embedded(fonts: &[Font]) -> Vec<Font> {
    let mut fonts = fonts.to_vec();
    for font in Font::all_embedded() {
        if !fonts.contains(&font) {
            fonts.push(font);
        }
    }
    fonts
}

impl fmt::Debug for Typesetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Typesetter({} bytes on {} pages)", self.text.len(), self.pages().len())
    }
}
