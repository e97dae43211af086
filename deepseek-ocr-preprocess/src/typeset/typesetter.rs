//! Text that grows, on pages that follow.

use super::{
    compose::{Composer, Line, Start, has_direction},
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
/// No font of the style has it, and a box stands in its place; or it is wider than a column, and its end is cut off.
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
    lines: Vec<Line>,
    typeset: Typeset,
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
            lines: Vec::new(),
            typeset: Typeset::default(),
        })
    }

    /// Adds text and says which pages changed; new ones are among them.
    pub fn push_str(&mut self, text: &str) -> Range<usize> {
        let kept = self.unchanged(text);
        let old = self.lines.split_off(kept);
        let start = old.first().map_or(self.text.len(), |line| line.range.start);
        let paragraph = old.first().filter(|line| line.paragraph < kept).map(|line| line.paragraph);
        self.text.push_str(text);
        self.compose(start, paragraph);
        let same = old.iter().zip(&self.lines[kept..]).take_while(|(old, new)| looks_like(old, new)).count();
        self.paint(kept + same, &old[same..])
    }

    /// The text so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Its pages.
    pub fn pages(&self) -> &[TypesetPage] {
        self.typeset.pages()
    }

    /// What could not be drawn; see [`Missing`].
    pub fn missing(&self) -> &[Missing] {
        self.typeset.missing()
    }

    /// The pages, taken out.
    pub fn finish(self) -> Typeset {
        self.typeset
    }

    /// How many pages `text` takes in this style; nothing is drawn.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(crate) fn count_pages(text: &str, style: &Style) -> Result<usize> {
        let mut typesetter = Self::new(style.clone())?;
        typesetter.text.push_str(text);
        typesetter.compose(0, None);
        Ok(typesetter.page_count())
    }

    /// Lines that stand when `added` is set after the text.
    fn unchanged(&self, added: &str) -> usize {
        let Some(last) = self.lines.last() else { return 0 };
        // A line feed that is added would be one with the carriage return.
        if self.text.ends_with(|end| self.frame.ends_paragraph(end) && end != '\r') {
            return self.lines.len();
        }
        let added = added.find(|end| self.frame.ends_paragraph(end)).map_or(added, |end| &added[..end]);
        if !self.frame.blocks && has_direction(added) {
            return last.paragraph;
        }
        // What is added can draw the last line's first word back into the line before it, or change the break between them.
        let before = self.lines.len().saturating_sub(2).max(last.paragraph);
        let free = |&line: &usize| self.lines[line].start == Start::Free;
        (last.paragraph..=before).rev().find(free).unwrap_or(last.paragraph)
    }

    fn compose(&mut self, start: usize, paragraph: Option<usize>) {
        let Self { frame, shaper, text, lines, typeset, .. } = self;
        typeset.missing.retain(|missing| missing.at < start);
        let mut composer = Composer { frame, shaper, lines, missing: &mut typeset.missing };
        composer.compose(text, start, paragraph);
    }

    fn page_count(&self) -> usize {
        self.lines.last().map_or(0, |line| line.slot / self.frame.slots() + 1)
    }

    /// Brings the pages up to date from line `changed` on, in whose place `old` lines were.
    fn paint(&mut self, changed: usize, old: &[Line]) -> Range<usize> {
        let slots = self.frame.slots();
        let before = self.typeset.pages.len();
        let count = self.page_count();
        self.typeset.pages.truncate(count);
        let of_page = |line: &Line| line.slot / slots;
        let first = self.lines[changed..].iter().chain(old).map(of_page).min().unwrap_or(count).min(count);
        for index in first..count {
            let start = self.lines.partition_point(|line| of_page(line) < index);
            let end = self.lines.partition_point(|line| of_page(line) <= index);
            let lines = &self.lines[start..end];
            let gone: Vec<Line> = old.iter().filter(|line| of_page(line) == index).cloned().collect();
            let changed = changed.clamp(start, end) - start;
            let page = match self.typeset.pages.get_mut(index) {
                Some(page) => {
                    self.painter.repaint(&mut page.page, lines, &self.frame, (changed, &gone));
                    page
                }
                None => {
                    let page = self.painter.page(lines, &self.frame);
                    self.typeset.pages.push(TypesetPage { page, range: 0..0, lines: Vec::new() });
                    &mut self.typeset.pages[index]
                }
            };
            page.lines = lines.iter().map(|line| line.range.start..line.text_end).collect();
            let from = if index == 0 { 0 } else { lines.first().map_or(0, |line| line.range.start) };
            page.range = from..lines.last().map_or(from, |line| line.range.end);
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
