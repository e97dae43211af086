//! Text to page images, the other way round: what *contexts optical compression* encodes (section 1 of the paper).
//!
//! 1. [`Style`] says how; it is checked once and becomes exact lengths (`typeset/frame.rs`).
//! 2. Text is cut at the opportunities for line breaks (UAX 14), each piece shaped in the first font that has its characters
//!    (`typeset/shape.rs`, HarfBuzz in Rust).
//! 3. Pieces become lines, and lines the order in which they are seen (UAX 9, `typeset/compose.rs`).
//! 4. Outlines become coverage in whole numbers (`typeset/raster.rs`), and coverage becomes pixels (`typeset/paint.rs`).
//!
//! Fonts are embedded and no step depends on the machine: the same text and style give the same pixels everywhere.

mod breaks;
mod characters;
mod compose;
mod density;
mod directions;
mod font;
mod frame;
mod paint;
mod raster;
mod shape;
mod style;
#[cfg(test)]
mod tests;
mod typesetter;
mod work;

pub use density::{Compression, Fitted};
pub use font::Font;
pub use style::{Arrangement, Margins, Style};
pub use typesetter::{Missing, Typeset, TypesetPage, Typesetter};

use crate::Page;
use deepseek_ocr_core::Result;

impl Page {
    /// Sets text on as many pages as it needs.
    ///
    /// Lines end at line feeds (and every other separator of lines or paragraphs) and where a column is full; a form feed
    /// begins a new page. What cannot be drawn is in [`Typeset::missing`].
    ///
    /// ```
    /// use deepseek_ocr_preprocess::{Page, Style};
    ///
    /// let text = "All work and no play makes Jack a dull boy.\n".repeat(330);
    /// let typeset = Page::typeset(&text, &Style::mini())?;
    /// assert_eq!(typeset.pages().len(), 5);
    /// assert!(typeset.missing().is_empty());
    /// assert_eq!(typeset.pages()[4].range.end, text.len());
    /// # Ok::<(), deepseek_ocr_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidStyle`](deepseek_ocr_core::Error::InvalidStyle), naming the setting and what it may be.
    pub fn typeset(text: &str, style: &Style) -> Result<Typeset> {
        let mut typesetter = Typesetter::new(style.clone())?;
        typesetter.push_str(text);
        Ok(typesetter.finish())
    }

    /// Sets text at the largest size at which it reaches a [`Compression`].
    ///
    /// Pages are those of the mode. A style with [`Arrangement::Aligned`] stays aligned, with more or fewer characters to a
    /// vision token. Even one page may be more than a short text needs; then it is set at the largest size that fits the
    /// page, and [`Fitted::ratio`] is lower than what was wanted.
    ///
    /// ```
    /// use deepseek_ocr_core::Mode;
    /// use deepseek_ocr_preprocess::{Compression, Page, Style};
    ///
    /// let text = "All work and no play makes Jack a dull boy. ".repeat(100);
    /// let wanted = Compression::new(Mode::Base, 4.0, 1100);
    /// let fitted = Page::typeset_to_fit(&text, &Style::default(), wanted)?;
    /// assert_eq!(fitted.vision_tokens, 273);
    /// assert!(fitted.ratio >= 4.0 && fitted.style.size > 10.0);
    /// # Ok::<(), deepseek_ocr_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`typeset`](Self::typeset); [`Error::InvalidRequest`](deepseek_ocr_core::Error::InvalidRequest) if the ratio
    /// is not reached even at the smallest size, saying which is.
    pub fn typeset_to_fit(text: &str, style: &Style, wanted: Compression) -> Result<Fitted> {
        density::typeset_to_fit(text, style, wanted)
    }
}
