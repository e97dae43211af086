//! Glyphs to lines: where lines break, in which order they show what they hold, and where on the pages they stand.
//!
//! A paragraph that grows goes on from the last piece of it that stands: what is added costs what is added, and at most a piece
//! and a line, however long the paragraph is.

use super::{
    breaks::Breaks,
    characters::is_invisible,
    directions::Directions,
    frame::Frame,
    shape::{Cluster, Glyph, Kind, Shaper, Way},
    typesetter::Missing,
    work,
};
use std::ops::Range;
use unicode_bidi::{Level, ParagraphBidiInfo};
use unicode_segmentation::UnicodeSegmentation;

/// A piece without any opportunity for a break is shaped in parts of about this many bytes.
const LONGEST_PIECE: usize = 1024;

/// One character to a reader that is longer than this is cut, too, and marks behind the cut are not drawn: no script needs hundreds
/// of them on a letter.
const LONGEST_GRAPHEME: usize = 1024;

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
}

/// Sets paragraphs in lines.
#[derive(Default)]
pub(crate) struct Composer {
    pub(crate) lines: Vec<Line>,
    pub(crate) missing: Vec<Missing>,
    /// The last paragraph, while text can be added to it.
    open: Option<Paragraph>,
    /// So much of the text is set.
    end: usize,
}

/// What paragraphs are set with.
pub(crate) struct Tools<'a> {
    pub(crate) frame: &'a Frame,
    pub(crate) shaper: &'a mut Shaper,
}

/// A paragraph and how far it is set.
struct Paragraph {
    /// Where it begins in the whole text.
    at: usize,
    /// So many bytes of it are known, without what separates it from the next.
    length: usize,
    breaks: Breaks,
    directions: Directions,
    /// What stands on its lines, in the order of the text.
    placed: Vec<Placed>,
    glyphs: Vec<Glyph>,
    state: State,
    /// The state before each piece.
    marks: Vec<State>,
}

/// How far a paragraph is set; lengths and indices, so that it can go back.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Where the next piece begins, in the paragraph.
    at: usize,
    /// Whether that is within what is one character to a reader.
    inside: bool,
    /// Lines and missing characters of the whole text.
    lines: usize,
    missing: usize,
    /// Lengths of the paragraph's own lists.
    placed: usize,
    glyphs: usize,
    /// What is first on the current line, where that begins in the paragraph, and where the line stands.
    first: usize,
    start: usize,
    slot: usize,
    /// Behind all that is placed.
    pen: i64,
    /// What is first of the current segment: what stands between two opportunities for a break.
    segment: usize,
    /// Behind the last ink.
    ink: usize,
    /// Behind the last ink of the segment, or where the segment begins.
    ink_pen: i64,
}

/// A cluster on a line; `at` is its byte in the paragraph, its glyphs are the paragraph's.
struct Placed {
    cluster: Cluster,
    level: Level,
}

impl Composer {
    /// Sets what was added to the text; the first line that may have changed, and the lines that were from it on.
    pub(crate) fn extend(&mut self, text: &str, mut tools: Tools<'_>) -> (usize, Vec<Line>) {
        let (mut kept, mut old) = (self.lines.len(), Vec::new());
        if let (Some(paragraph), true) = (&mut self.open, self.end < text.len()) {
            let state = paragraph.grow(text, tools.frame);
            kept = state.lines;
            old = self.lines.split_off(kept);
            self.missing.truncate(state.missing);
            self.set_open(text, &mut tools);
        }
        while self.end < text.len() {
            let mut paragraph = Paragraph::new(self.end, self.next_slot(text, tools.frame));
            (paragraph.state.lines, paragraph.state.missing) = (self.lines.len(), self.missing.len());
            paragraph.grow(text, tools.frame);
            self.open = Some(paragraph);
            self.set_open(text, &mut tools);
        }
        (kept, old)
    }

    /// Sets the open paragraph to its end, and closes it if it has one.
    fn set_open(&mut self, text: &str, tools: &mut Tools<'_>) {
        let Some(mut paragraph) = self.open.take() else { return };
        self.paragraph(&mut paragraph, text, tools);
        let body_end = paragraph.at + paragraph.length;
        let separator = separator(&text[body_end..]);
        self.end = body_end + separator.len();
        if let Some(line) = self.lines.last_mut() {
            line.range.end = self.end;
        }
        // A line feed that is added would be one with the carriage return.
        if separator.is_empty() || separator == "\r" && self.end == text.len() {
            self.open = Some(paragraph);
        }
    }

    /// Where the next line stands: after the last, or on a new page after a form feed.
    fn next_slot(&self, text: &str, frame: &Frame) -> usize {
        let slots = frame.slots();
        match self.lines.last() {
            None => 0,
            Some(line) if text[..line.range.end].ends_with(FORM_FEED) => (line.slot / slots + 1) * slots,
            Some(line) => line.slot + 1,
        }
    }

    fn paragraph(&mut self, paragraph: &mut Paragraph, text: &str, tools: &mut Tools<'_>) {
        let body = &text[paragraph.at..paragraph.at + paragraph.length];
        while paragraph.state.at < body.len() {
            let segment = paragraph.breaks.next(paragraph.state.at);
            let (end, inside) = paragraph.piece(body, segment);
            let piece = paragraph.state.at..end;
            self.mark(paragraph);
            let placed = self.shape(body, piece, paragraph, tools);
            for next in placed {
                self.place(next, paragraph, tools.frame);
            }
            (paragraph.state.at, paragraph.state.inside) = (end, inside);
            if end == segment {
                paragraph.end_segment(tools.frame);
            }
        }
        self.mark(paragraph);
        self.finish_line(body.len(), paragraph.placed.len(), paragraph, tools.frame);
    }

    /// Remembers the state, so that what is added goes on from here.
    fn mark(&self, paragraph: &mut Paragraph) {
        let state = &mut paragraph.state;
        (state.lines, state.missing) = (self.lines.len(), self.missing.len());
        (state.placed, state.glyphs) = (paragraph.placed.len(), paragraph.glyphs.len());
        paragraph.marks.push(*state);
    }

    fn shape(
        &mut self,
        body: &str,
        piece: Range<usize>,
        paragraph: &mut Paragraph,
        tools: &mut Tools<'_>,
    ) -> Vec<Placed> {
        let level = paragraph.directions.level(piece.start);
        let way = if level.is_rtl() { Way::RightToLeft } else { Way::LeftToRight };
        let at = piece.start;
        let shaped = tools.shaper.shape(&body[piece.clone()], way, tools.frame);
        let glyphs = paragraph.glyphs.len();
        paragraph.glyphs.extend_from_slice(&shaped.glyphs);
        let wide = shaped.clusters.iter().filter(|cluster| cluster.advance > tools.frame.column);
        let wide = wide.filter_map(|cluster| Some((cluster.at, body[at + cluster.at..].chars().next()?)));
        let marks = match paragraph.state.inside {
            true => shaped.clusters.iter().take_while(|cluster| cluster.advance == 0).count(),
            false => 0,
        };
        let marks_end = shaped.clusters.get(marks).map_or(piece.len(), |cluster| cluster.at);
        let undrawn = body[at..at + marks_end * usize::from(marks > 0)].char_indices();
        let undrawn = undrawn.filter(|&(_, character)| !is_invisible(character));
        let mut missing: Vec<_> = shaped.missing.iter().copied().chain(wide).chain(undrawn).collect();
        missing.sort_unstable();
        missing.dedup();
        let place = paragraph.at + at;
        self.missing.extend(missing.into_iter().map(|(at, character)| Missing { character, at: place + at }));
        let placed = |mut cluster: Cluster| {
            cluster.at += at;
            cluster.glyphs = cluster.glyphs.start + glyphs..cluster.glyphs.end + glyphs;
            Placed { cluster, level }
        };
        shaped.clusters[marks..].iter().cloned().map(placed).collect()
    }

    /// Places a cluster behind the others. White space hangs over the end of a line unless ink follows in its segment.
    fn place(&mut self, next: Placed, paragraph: &mut Paragraph, frame: &Frame) {
        work::count(1);
        let kind = next.cluster.kind;
        let pen = frame.advanced(paragraph.state.pen, &next.cluster);
        if kind == Kind::Nothing && pen <= frame.column && paragraph.follows_ink(next.level) {
            return;
        }
        paragraph.placed.push(next);
        if !kind.is_ink() {
            paragraph.state.pen = pen;
            return;
        }
        if pen <= frame.column {
            paragraph.state.ink_at(paragraph.placed.len(), pen);
            return;
        }
        let State { first, segment, ink, ink_pen, .. } = paragraph.state;
        if segment > first && !frame.blocks {
            // The whole segment goes on a new line, and is cut if it does not fit that one.
            self.finish_line(paragraph.placed[segment].cluster.at, segment, paragraph, frame);
            self.place_again(segment, paragraph, frame);
        } else {
            paragraph.state.pen = ink_pen;
            self.place_again(ink.max(segment), paragraph, frame);
        }
    }

    /// Breaks lines before what does not fit, from the cluster `from` on; the last is ink.
    fn place_again(&mut self, from: usize, paragraph: &mut Paragraph, frame: &Frame) {
        for index in from..paragraph.placed.len() {
            work::count(1);
            let cluster = &paragraph.placed[index].cluster;
            let (at, pen) = (cluster.at, frame.advanced(paragraph.state.pen, cluster));
            if pen > frame.column && index > paragraph.state.first {
                self.finish_line(at, index, paragraph, frame);
            }
            paragraph.state.pen = frame.advanced(paragraph.state.pen, &paragraph.placed[index].cluster);
        }
        paragraph.state.ink_at(paragraph.placed.len(), paragraph.state.pen);
    }

    /// Ends the current line before a byte of the paragraph, which has the cluster `next`.
    fn finish_line(&mut self, end: usize, next: usize, paragraph: &mut Paragraph, frame: &Frame) {
        work::count(1);
        let State { first, start, slot, ink, .. } = paragraph.state;
        let is_ink = |placed: &Placed| placed.cluster.kind.is_ink();
        let last = match ink <= next {
            true => ink.max(first),
            false => first + paragraph.placed[first..next].iter().rposition(is_ink).map_or(0, |last| last + 1),
        };
        let text_end = match paragraph.placed[last..next].first() {
            _ if last == first => start,
            Some(white) => white.cluster.at,
            None => end,
        };
        let glyphs = paragraph.visual(first..last, frame);
        let at = paragraph.at;
        self.lines.push(Line { range: at + start..at + end, text_end: at + text_end, slot, glyphs });
        let state = &mut paragraph.state;
        (state.first, state.start, state.slot, state.pen) = (next, end, slot + 1, 0);
    }
}

impl Frame {
    /// The pen behind a cluster.
    fn advanced(&self, pen: i64, cluster: &Cluster) -> i64 {
        match cluster.kind {
            Kind::Tab => (pen.div_euclid(self.tab) + 1) * self.tab,
            Kind::Ink | Kind::Nothing | Kind::Space => pen + cluster.advance,
        }
    }
}

impl State {
    /// The last ink ends before the cluster `next`, and at `pen`.
    fn ink_at(&mut self, next: usize, pen: i64) {
        (self.ink, self.ink_pen, self.pen) = (next, pen, pen);
    }
}

impl Paragraph {
    fn new(at: usize, slot: usize) -> Self {
        let state = State { slot, ..State::default() };
        let (breaks, directions) = Default::default();
        let (placed, glyphs, marks) = Default::default();
        Self { at, length: 0, breaks, directions, placed, glyphs, state, marks }
    }

    /// Takes what was added to the text, up to the paragraph's end, and goes back to what of it stands.
    fn grow(&mut self, text: &str, frame: &Frame) -> State {
        let from = self.length;
        let added = &text[self.at + from..];
        let end = added.find(|character| frame.ends_paragraph(character)).unwrap_or(added.len());
        work::count(end);
        self.length += end;
        self.breaks.extend(&added[..end]);
        let stands = match frame.blocks {
            true => from,
            false => self.directions.extend(&text[self.at..self.at + self.length], from),
        };
        // A piece may end where the next has another level.
        let stands = self.marks.partition_point(|mark| mark.at < stands.max(1));
        self.marks.truncate(stands);
        self.state = self.marks.pop().unwrap_or(self.state);
        self.placed.truncate(self.state.placed);
        self.glyphs.truncate(self.state.glyphs);
        self.state
    }

    /// The end of the piece that begins at the state's place, and whether that is within what is one character to a reader: a segment
    /// is cut where the direction changes, and where it is too long.
    fn piece(&self, body: &str, segment: usize) -> (usize, bool) {
        let start = self.state.at;
        if self.directions.is_plain() && segment - start <= LONGEST_PIECE {
            return (segment, false);
        }
        let level = self.directions.level(start);
        let end = body.floor_char_boundary(segment.min(start + LONGEST_PIECE + LONGEST_GRAPHEME));
        let mut graphemes = body[start..end].grapheme_indices(true).map(|(offset, _)| start + offset).skip(1);
        let cut = |&at: &usize| {
            work::count(1);
            self.directions.level(at) != level || at - start >= LONGEST_PIECE
        };
        graphemes.find(cut).map_or((end, end < segment), |cut| (cut, false))
    }

    fn end_segment(&mut self, frame: &Frame) {
        // What shows nothing behind ink changes nothing; lines stay as short as they are wide.
        if let [.., before, last] = &self.placed[self.state.first..]
            && (self.placed.len() - self.state.segment, last.cluster.kind) == (1, Kind::Nothing)
            && (before.cluster.kind.is_ink(), before.level) == (true, last.level)
            && self.state.pen <= frame.column
        {
            self.placed.pop();
            self.state.ink = self.placed.len();
        }
        let state = &mut self.state;
        (state.segment, state.ink_pen) = (self.placed.len(), state.pen);
    }

    /// Whether the last of the current segment is ink of this level.
    fn follows_ink(&self, level: Level) -> bool {
        let last = self.placed[self.state.segment..].last();
        last.is_some_and(|last| last.cluster.kind.is_ink() && last.level == level)
    }

    /// The glyphs of a line as they are seen, from left to right.
    fn visual(&self, line: Range<usize>, frame: &Frame) -> Vec<Glyph> {
        let line = &self.placed[line];
        work::count(line.iter().map(|placed| 1 + placed.cluster.glyphs.len()).sum());
        let mut advances = Vec::with_capacity(line.len());
        let width = line.iter().fold(0, |pen, placed| {
            let next = frame.advanced(pen, &placed.cluster);
            advances.push(next - pen);
            next
        });
        let base = self.directions.base();
        let mut x = if base.is_rtl() { frame.column - width } else { 0 };
        let mut glyphs = Vec::with_capacity(line.iter().map(|placed| placed.cluster.glyphs.len()).sum());
        for index in self.order(line) {
            let own = &self.glyphs[line[index].cluster.glyphs.clone()];
            glyphs.extend(own.iter().map(|glyph| Glyph { x: glyph.x + x as i32, ..*glyph }));
            x += advances[index];
        }
        glyphs
    }

    /// Indices of a line's clusters from left to right.
    fn order(&self, line: &[Placed]) -> Vec<usize> {
        if self.directions.is_plain() {
            return (0..line.len()).collect();
        }
        let mut levels: Vec<Level> = line.iter().map(|placed| placed.level).collect();
        // Rule L1: a tab, and white space before one, has the paragraph's direction. That at the line's end is gone.
        let mut resets = false;
        for (placed, level) in line.iter().zip(&mut levels).rev() {
            resets = match placed.cluster.kind {
                Kind::Tab => true,
                Kind::Space => resets,
                Kind::Ink | Kind::Nothing => false,
            };
            if resets {
                *level = self.directions.base();
            }
        }
        ParagraphBidiInfo::reorder_visual(&levels)
    }
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
