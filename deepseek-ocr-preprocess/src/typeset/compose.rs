//! Glyphs to lines: where lines break, in which order they show what they hold, and where on the pages they stand.

use super::{
    frame::Frame,
    shape::{Cluster, Glyph, Kind, Shaper, Way},
    typesetter::Missing,
};
use std::ops::Range;
use unicode_bidi::{BidiClass, Level, ParagraphBidiInfo, bidi_class};
use unicode_segmentation::UnicodeSegmentation;

/// A piece without any opportunity for a break is shaped in parts of about this many bytes.
const LONGEST_PIECE: usize = 1024;

/// Ends its page, in every arrangement.
pub(crate) const FORM_FEED: char = '\x0c';

/// A line of text on its page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// From its first byte to that of the next line: what separates them belongs to it.
    pub(crate) range: Range<usize>,
    /// Where its text ends: before the white space at its end.
    pub(crate) text_end: usize,
    /// Its place, counted over all pages.
    pub(crate) slot: usize,
    /// From the line's left end and its baseline.
    pub(crate) glyphs: Vec<Glyph>,
    /// The paragraph's first line.
    pub(crate) paragraph: usize,
    pub(crate) start: Start,
}

/// What the lines from this one on depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// On what comes before it in its paragraph.
    Bound,
    /// On nothing before it: a space is there, and the paragraph runs from left to right.
    Free,
}

/// Sets paragraphs in lines.
pub(crate) struct Composer<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) shaper: &'a mut Shaper,
    pub(crate) lines: &'a mut Vec<Line>,
    pub(crate) missing: &'a mut Vec<Missing>,
}

/// A paragraph, or the rest of one, while it is set.
struct Paragraph<'a> {
    body: &'a str,
    /// Where the body begins in the whole text.
    at: usize,
    /// Where its first line stands, and which line that is.
    slot: usize,
    first: usize,
    /// One level a byte; empty for text from left to right.
    levels: Vec<Level>,
    base: Level,
    line: Vec<Placed>,
    glyphs: Vec<Glyph>,
    pen: i64,
    /// Where the current line begins in the body.
    start: usize,
}

/// A cluster in the current line; `at` is its byte in the body, its glyphs are the paragraph's.
struct Placed {
    cluster: Cluster,
    level: Level,
}

impl Composer<'_> {
    /// Sets `text` from `at` on, which begins a paragraph or a [`Start::Free`] line; the lines before it stand.
    pub(crate) fn compose(&mut self, text: &str, mut at: usize, mut paragraph: Option<usize>) {
        while at < text.len() {
            let rest = &text[at..];
            let (body, separator) = match rest.find(|character| self.frame.ends_paragraph(character)) {
                Some(end) => (&rest[..end], separator(&rest[end..])),
                None => (rest, ""),
            };
            let end = at + body.len() + separator.len();
            let first = paragraph.take().unwrap_or(self.lines.len());
            let slot = self.next_slot(text);
            let levels = if self.frame.blocks { (Vec::new(), Level::ltr()) } else { directions(body) };
            self.paragraph(Paragraph::new(body, levels, (at, slot, first)));
            if let Some(line) = self.lines.last_mut() {
                line.range.end = end;
            }
            at = end;
        }
    }

    /// Where the next line stands: after the last, or on a new page after a form feed.
    fn next_slot(&self, text: &str) -> usize {
        let slots = self.frame.slots();
        match self.lines.last() {
            None => 0,
            Some(line) if text[..line.range.end].ends_with(FORM_FEED) => (line.slot / slots + 1) * slots,
            Some(line) => line.slot + 1,
        }
    }

    fn paragraph(&mut self, mut paragraph: Paragraph<'_>) {
        let body = paragraph.body;
        let mut start = 0;
        for (end, _) in unicode_linebreak::linebreaks(body) {
            let mut segment = Vec::new();
            for piece in paragraph.pieces(start..end) {
                self.shape(piece, &mut paragraph, &mut segment);
            }
            self.add(segment, &mut paragraph);
            start = end;
        }
        self.finish_line(body.len(), &mut paragraph);
    }

    fn shape(&mut self, piece: Range<usize>, paragraph: &mut Paragraph<'_>, segment: &mut Vec<Placed>) {
        let level = paragraph.level(piece.start);
        let way = if level.is_rtl() { Way::RightToLeft } else { Way::LeftToRight };
        let shaped = self.shaper.shape(&paragraph.body[piece.clone()], way, self.frame);
        let (glyphs, at) = (paragraph.glyphs.len(), piece.start);
        paragraph.glyphs.extend_from_slice(&shaped.glyphs);
        segment.extend(shaped.clusters.iter().cloned().map(|mut cluster| {
            cluster.at += at;
            cluster.glyphs = cluster.glyphs.start + glyphs..cluster.glyphs.end + glyphs;
            Placed { cluster, level }
        }));
        let place = paragraph.at + at;
        let missing = shaped.missing.iter().map(|&(at, character)| Missing { character, at: place + at });
        self.missing.extend(missing);
        let wide = shaped.clusters.iter().filter(|cluster| cluster.advance > self.frame.column);
        for cluster in wide {
            let character = paragraph.body[at + cluster.at..].chars().next();
            self.missing.extend(character.map(|character| Missing { character, at: place + cluster.at }));
        }
    }

    /// Adds what stands between two opportunities for a break, on a new line if it does not fit the current one.
    fn add(&mut self, segment: Vec<Placed>, paragraph: &mut Paragraph<'_>) {
        let ink = segment.iter().rposition(|placed| placed.cluster.kind == Kind::Ink).map_or(0, |last| last + 1);
        let after = |pen: i64, placed: &Placed| self.frame.advanced(pen, &placed.cluster);
        let width = segment[..ink].iter().fold(paragraph.pen, after);
        let breaks = width > self.frame.column && !paragraph.line.is_empty() && !self.frame.blocks;
        if let (Some(first), true) = (segment[..ink].first(), breaks) {
            self.finish_line(first.cluster.at, paragraph);
        }
        for (index, placed) in segment.into_iter().enumerate() {
            let pen = self.frame.advanced(paragraph.pen, &placed.cluster);
            // In blocks, or in a segment that is wider than a column; white space hangs over the end.
            if pen > self.frame.column && index < ink && !paragraph.line.is_empty() {
                self.finish_line(placed.cluster.at, paragraph);
            }
            paragraph.pen = self.frame.advanced(paragraph.pen, &placed.cluster);
            paragraph.line.push(placed);
        }
    }

    fn finish_line(&mut self, end: usize, paragraph: &mut Paragraph<'_>) {
        let last = paragraph.line.iter().rposition(|placed| placed.cluster.kind == Kind::Ink);
        let white = paragraph.line.split_off(last.map_or(0, |last| last + 1));
        let text_end = if last.is_none() { paragraph.start } else { white.first().map_or(end, |p| p.cluster.at) };
        let before = &paragraph.body[..paragraph.start];
        let apart = |end: char| end == ' ' || self.frame.blocks && end.is_ascii();
        let free = paragraph.levels.is_empty() && (before.is_empty() || before.ends_with(apart));
        let line = Line {
            range: paragraph.at + paragraph.start..paragraph.at + end,
            text_end: paragraph.at + text_end,
            slot: paragraph.slot,
            glyphs: paragraph.visual(self.frame),
            paragraph: paragraph.first,
            start: if free { Start::Free } else { Start::Bound },
        };
        self.lines.push(line);
        paragraph.line.clear();
        (paragraph.pen, paragraph.start, paragraph.slot) = (0, end, paragraph.slot + 1);
    }
}

impl Frame {
    /// The pen behind a cluster.
    fn advanced(&self, pen: i64, cluster: &Cluster) -> i64 {
        match cluster.kind {
            Kind::Tab => (pen.div_euclid(self.tab) + 1) * self.tab,
            Kind::Ink | Kind::Space => pen + cluster.advance,
        }
    }
}

impl<'a> Paragraph<'a> {
    fn new(body: &'a str, (levels, base): (Vec<Level>, Level), (at, slot, first): (usize, usize, usize)) -> Self {
        let (line, glyphs) = (Vec::new(), Vec::new());
        Self { body, at, slot, first, levels, base, line, glyphs, pen: 0, start: 0 }
    }

    fn level(&self, at: usize) -> Level {
        self.levels.get(at).copied().unwrap_or(self.base)
    }

    /// A segment cut where the direction changes, and where it is too long.
    fn pieces(&self, segment: Range<usize>) -> Vec<Range<usize>> {
        if self.levels.is_empty() && segment.len() <= LONGEST_PIECE {
            return vec![segment];
        }
        let mut pieces = Vec::new();
        let mut start = segment.start;
        for (offset, _) in self.body[segment.clone()].grapheme_indices(true) {
            let at = segment.start + offset;
            if at > start && (self.level(at) != self.level(start) || at - start >= LONGEST_PIECE) {
                pieces.push(start..at);
                start = at;
            }
        }
        pieces.push(start..segment.end);
        pieces
    }

    /// The glyphs of the current line as they are seen, from left to right.
    fn visual(&self, frame: &Frame) -> Vec<Glyph> {
        let mut advances = Vec::with_capacity(self.line.len());
        let width = self.line.iter().fold(0, |pen, placed| {
            let next = frame.advanced(pen, &placed.cluster);
            advances.push(next - pen);
            next
        });
        let mut x = if self.base.is_rtl() { frame.column - width } else { 0 };
        let mut glyphs = Vec::with_capacity(self.line.iter().map(|placed| placed.cluster.glyphs.len()).sum());
        for index in self.order() {
            let own = &self.glyphs[self.line[index].cluster.glyphs.clone()];
            glyphs.extend(own.iter().map(|glyph| Glyph { x: glyph.x + x as i32, ..*glyph }));
            x += advances[index];
        }
        glyphs
    }

    /// Indices of the line's clusters from left to right.
    fn order(&self) -> Vec<usize> {
        if self.levels.is_empty() {
            return (0..self.line.len()).collect();
        }
        let mut levels: Vec<Level> = self.line.iter().map(|placed| placed.level).collect();
        // Rule L1: a tab, and white space before one, has the paragraph's direction. That at the line's end is gone.
        let mut resets = false;
        for (placed, level) in self.line.iter().zip(&mut levels).rev() {
            resets = match placed.cluster.kind {
                Kind::Tab => true,
                Kind::Space => resets,
                Kind::Ink => false,
            };
            if resets {
                *level = self.base;
            }
        }
        ParagraphBidiInfo::reorder_visual(&levels)
    }
}

/// The level of each byte of a paragraph and the paragraph's own; none for text from left to right.
fn directions(body: &str) -> (Vec<Level>, Level) {
    if !has_direction(body) {
        return (Vec::new(), Level::ltr());
    }
    let info = ParagraphBidiInfo::new(body, None);
    (info.levels, info.paragraph_level)
}

/// Whether any character runs from right to left or changes direction.
pub(crate) fn has_direction(text: &str) -> bool {
    use BidiClass::{AL, AN, FSI, LRE, LRI, LRO, PDF, PDI, R, RLE, RLI, RLO};
    let directed =
        |character| matches!(bidi_class(character), AL | AN | FSI | LRE | LRI | LRO | PDF | PDI | R | RLE | RLI | RLO);
    // The first such character is U+0590.
    text.chars().any(|character| character >= '\u{590}' && directed(character))
}

/// Characters that end a paragraph; a form feed ends its page, too.
pub(crate) fn is_separator(character: char) -> bool {
    matches!(character, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// The separator at the start of `rest`; a carriage return and a line feed are one.
fn separator(rest: &str) -> &str {
    let length = if rest.starts_with("\r\n") { 2 } else { rest.chars().next().map_or(0, char::len_utf8) };
    &rest[..length]
}

#[cfg(test)]
mod tests;
