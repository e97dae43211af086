//! How text is set: fonts, sizes, the page, and whether characters stand on the grid of vision tokens.

use super::font::Font;
use deepseek_ocr_core::{Mode, TOKEN_SIDE};

/// How text is set on pages.
///
/// ```
/// use deepseek_ocr_core::Mode;
/// use deepseek_ocr_preprocess::{Font, Style};
///
/// let style = Style::default().with_mode(Mode::Small).with_font(Font::serif()).with_size(14.0).with_columns(2);
/// assert_eq!((style.width, style.height), (640, 640));
///
/// // 3 lines of 7 characters on each vision token.
/// let dense = Style::default().with_mode(Mode::Tiny).with_font(Font::sans_mono()).with_aligned(3, 7);
/// assert_eq!(dense.size, 15.0);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Style {
    /// Fonts in the order in which they are asked for a character; the embedded ones follow.
    ///
    /// The first says how high lines are.
    pub fonts: Vec<Font>,
    /// Size of the em in pixels, 1 to 256; parts finer than 1/64 are rounded.
    pub size: f32,
    /// Where lines and characters stand.
    pub arrangement: Arrangement,
    /// Blank space around the text.
    pub margins: Margins,
    /// Columns of text side by side.
    pub columns: u32,
    /// Pixels between two columns.
    pub gutter: u32,
    /// Distance of tab stops, in widths of a space; in aligned text in characters.
    pub tab: u32,
    /// Colour of the text, red, green and blue.
    pub ink: [u8; 3],
    /// Colour of the background.
    pub paper: [u8; 3],
    /// Width of a page in pixels.
    pub width: u32,
    /// Height of a page in pixels.
    pub height: u32,
}

/// Where lines and characters stand.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Arrangement {
    /// Characters as wide as the font has them.
    Flow {
        /// Distance of two lines, in sizes of the em.
        leading: f32,
    },
    /// Each character in a cell of its own, wide ones in as many as they need: so many to a vision token, which covers
    /// 64 x 64 pixels of the page.
    ///
    /// The grid begins at the left and the top margin; margins of whole tokens keep it on the tokens.
    Aligned {
        /// Lines to a vision token.
        lines: u32,
        /// Characters of each line to a vision token.
        characters: u32,
    },
    /// As [`Aligned`](Self::Aligned), but text fills a block of 64 x 64 pixels, which becomes one vision token, before it goes on in
    /// the block to its right: the order of the vision tokens is that of the text, and each holds the same number of characters.
    ///
    /// A line ends where its block does, within words too; nothing is reordered. The end of a paragraph is a character like any other,
    /// drawn as `¶`, and so is a tab, drawn as `→`. A form feed still ends its page. There is one column.
    Blocks {
        /// Lines to a vision token.
        lines: u32,
        /// Characters of each line to a vision token.
        characters: u32,
    },
}

/// Blank space around the text, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Margins {
    /// Above.
    pub top: u32,
    /// To the right.
    pub right: u32,
    /// Below.
    pub bottom: u32,
    /// To the left.
    pub left: u32,
}

impl Margins {
    /// The same on all sides.
    pub const fn all(pixels: u32) -> Self {
        Self { top: pixels, right: pixels, bottom: pixels, left: pixels }
    }
}

/// DejaVu Sans at 16 px on a page of [`Mode::Base`], one column, black on white.
impl Default for Style {
    fn default() -> Self {
        let side = Mode::Base.geometry().page_side;
        Self {
            fonts: vec![Font::sans()],
            size: 16.0,
            arrangement: Arrangement::Flow { leading: 1.25 },
            margins: Margins::all(32),
            columns: 1,
            gutter: 32,
            tab: 4,
            ink: [0; 3],
            paper: [255; 3],
            width: side,
            height: side,
        }
    }
}

impl Style {
    /// The style that the mini checkpoint was trained to read: blocks of 5 lines of 10 characters, each a vision token, in DejaVu Sans
    /// Mono on a page of [`Mode::Tiny`], which holds 3200 characters.
    pub fn mini() -> Self {
        let page = Self::default().with_mode(Mode::Tiny).with_margins(Margins::default());
        page.with_font(Font::sans_mono()).with_blocks(5, 10)
    }

    /// Sets the page to the page view of `mode`, so that it is not resized.
    #[must_use]
    pub fn with_mode(self, mode: Mode) -> Self {
        let side = mode.geometry().page_side;
        self.with_page(side, side)
    }

    /// Sets the page's size in pixels.
    #[must_use]
    pub fn with_page(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    /// Sets the first font; those that were set before are asked after it.
    #[must_use]
    pub fn with_font(mut self, font: Font) -> Self {
        self.fonts.retain(|other| *other != font);
        self.fonts.insert(0, font);
        self
    }

    /// Adds a font that is asked for what those before it lack.
    #[must_use]
    pub fn with_fallback(mut self, font: Font) -> Self {
        self.fonts.push(font);
        self
    }

    /// Sets the size of the em in pixels.
    #[must_use]
    pub fn with_size(self, size: f32) -> Self {
        Self { size, ..self }
    }

    /// Lets characters be as wide as the font has them, and sets the distance of lines in sizes of the em.
    #[must_use]
    pub fn with_leading(self, leading: f32) -> Self {
        Self { arrangement: Arrangement::Flow { leading }, ..self }
    }

    /// Puts lines and characters on the grid of vision tokens, and sets the size to the largest whole number of pixels at
    /// which a line and the digits of the first font fit their cells.
    #[must_use]
    pub fn with_aligned(self, lines: u32, characters: u32) -> Self {
        let size = self.fonts.first().map_or(self.size, |font| cell_size(font, lines, characters));
        Self { arrangement: Arrangement::Aligned { lines, characters }, size, ..self }
    }

    /// Lets text fill one vision token after the other, as [`Arrangement::Blocks`] says, in the size of
    /// [`with_aligned`](Self::with_aligned).
    ///
    /// ```
    /// use deepseek_ocr_core::Mode;
    /// use deepseek_ocr_preprocess::{Font, Margins, Page, Style};
    ///
    /// let style = Style::default().with_mode(Mode::Tiny).with_margins(Margins::default());
    /// let style = style.with_font(Font::sans_mono()).with_blocks(5, 10);
    /// let typeset = Page::typeset(&"A word and\nanother. ".repeat(160), &style)?;
    /// assert_eq!((typeset.pages().len(), typeset.pages()[0].range.len()), (1, 3200));
    /// # Ok::<(), deepseek_ocr_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_blocks(self, lines: u32, characters: u32) -> Self {
        Self { arrangement: Arrangement::Blocks { lines, characters }, ..self.with_aligned(lines, characters) }
    }

    /// Sets the blank space around the text.
    #[must_use]
    pub fn with_margins(self, margins: Margins) -> Self {
        Self { margins, ..self }
    }

    /// Sets the number of columns.
    #[must_use]
    pub fn with_columns(self, columns: u32) -> Self {
        Self { columns, ..self }
    }

    /// Sets the pixels between two columns.
    #[must_use]
    pub fn with_gutter(self, gutter: u32) -> Self {
        Self { gutter, ..self }
    }

    /// Sets the distance of tab stops.
    #[must_use]
    pub fn with_tab(self, tab: u32) -> Self {
        Self { tab, ..self }
    }

    /// Sets the colour of the text.
    #[must_use]
    pub fn with_ink(self, ink: [u8; 3]) -> Self {
        Self { ink, ..self }
    }

    /// Sets the colour of the background.
    #[must_use]
    pub fn with_paper(self, paper: [u8; 3]) -> Self {
        Self { paper, ..self }
    }
}

/// The largest whole size at which a digit and a line fit a cell; at least one.
fn cell_size(font: &Font, lines: u32, characters: u32) -> f32 {
    let em = font.units_per_em();
    // The em's size at which so many of these lengths, in font units, fill a token.
    let fills = |count: u32, length: i64| i64::from(TOKEN_SIDE) * em / (i64::from(count) * length).max(1);
    let height = font.line().ascent + font.line().descent;
    fills(characters, font.advance('0')).min(fills(lines, height)).max(1) as f32
}
