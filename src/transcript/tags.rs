//! Finds tags in what the model wrote, however much of them is left: with special tokens, without, or cut off at the end.
//!
//! Every byte is looked at a bounded number of times, whatever the text.

use super::corners::{self, Corners};
use std::ops::Range;

/// Labels of the layouts that DeepSeek-OCR and its sister models were trained on. Without special tokens only these make a tag:
/// `see table[[1, 2, 3, 4]]` and `m[[1, 2, 3, 4]]` are text.
const LABELS: [&str; 37] = [
    "abstract",
    "algorithm",
    "aside_text",
    "caption",
    "chart",
    "code",
    "code_caption",
    "equation",
    "figure",
    "figure_caption",
    "figure_title",
    "footer",
    "footnote",
    "formula",
    "formula_number",
    "header",
    "image",
    "image_caption",
    "image_footnote",
    "list",
    "number",
    "page_footnote",
    "page_number",
    "paragraph",
    "paragraph_title",
    "phonetic",
    "ref_text",
    "reference",
    "seal",
    "sub_title",
    "subtitle",
    "table",
    "table_caption",
    "table_footnote",
    "text",
    "title",
    "vertical_text",
];
/// No label is longer, in bytes.
const LONGEST_LABEL: usize = 15;

/// What parts pages where several were read: of sister models, and of the released code.
const PAGE_MARKS: [&str; 2] = ["<PAGE>", "<--- Page Split --->"];

/// A stretch of what the model wrote.
#[derive(Debug, PartialEq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    Tag(Tag<'a>),
    /// Another page begins.
    Page,
}

#[derive(Debug, PartialEq)]
pub(super) struct Tag<'a> {
    pub(super) whole: &'a str,
    pub(super) label: &'a str,
    /// Nothing if they cannot be read.
    pub(super) boxes: Option<Vec<Corners>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ref,
    RefEnd,
    Det,
    DetEnd,
    /// The token that ends an answer.
    End,
    Page,
}

#[derive(Debug, Clone, Copy)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// The text in pieces; tokens that end an answer and marks of pages are left out.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let tokens = tokens(text);
    let mut split = Split { text, pieces: Vec::new(), done: 0, opens_line: true, fenced: false };
    let mut at = 0;
    while let Some(&Token { kind, start, end }) = tokens.get(at) {
        let (rest, before) = (&tokens[at..], &text[split.done..start]);
        let opens_line = if before.is_empty() { split.opens_line } else { before.ends_with('\n') };
        let tag = match kind {
            Kind::Ref => after_ref(text, rest),
            Kind::Det => after_det(text, rest),
            _ => None,
        };
        if let Some(tag) = tag {
            split.tag(start, tag);
        } else if kind == Kind::End || kind == Kind::Page && is_page_mark(text, rest, opens_line) {
            split.leave_out(start..end, (kind == Kind::Page).then_some(Piece::Page));
        }
        at += 1 + tokens[at + 1..].iter().take_while(|token| token.start < split.done).count();
    }
    split.text_up_to(text.len());
    split.pieces
}

/// What a tag's tokens tell.
struct Found<'a> {
    end: usize,
    label: Option<&'a str>,
    boxes: Option<Vec<Corners>>,
}

/// `<|ref|>LABEL<|/ref|><|det|>BOXES<|/det|>`, of which any token behind the label may be lost.
fn after_ref<'a>(text: &'a str, tokens: &[Token]) -> Option<Found<'a>> {
    let (open, rest) = tokens.split_first()?;
    let Some((close, rest)) = rest.split_first() else {
        let rest = &text[open.end..];
        return is_cut_label(rest).then_some(Found { end: text.len(), label: Some(rest), boxes: None });
    };
    let (label, next) = (&text[open.end..close.start], rest.first());
    let behind = up_to(text, close.end, next);
    let (end, boxes) = match (close.kind, next) {
        (Kind::RefEnd, Some(det)) if det.kind == Kind::Det && is_blank(behind) => {
            boxes_after(text, det.end, rest.get(1))?
        }
        (Kind::RefEnd, None) if is_cut_token(behind, "<|det|>") => (text.len(), None),
        (Kind::RefEnd, next) if behind.trim_start().starts_with('[') => boxes_after(text, close.end, next)?,
        (Kind::Det, next) if !label.contains('\n') => boxes_after(text, close.end, next)?,
        _ => return None,
    };
    Some(Found { end, label: Some(label), boxes })
}

/// `<|det|>LABEL [x1, y1, x2, y2]<|/det|>`, or without a label in it.
fn after_det<'a>(text: &'a str, tokens: &[Token]) -> Option<Found<'a>> {
    let (open, rest) = tokens.split_first()?;
    let content = up_to(text, open.end, rest.first());
    let Some(at) = content.find('[') else {
        let cut = rest.is_empty() && is_cut_label(content);
        return cut.then_some(Found { end: text.len(), label: Some(content), boxes: None });
    };
    let label = content[..at].trim();
    let (end, boxes) = boxes_after(text, open.end + at, rest.first()).filter(|_| !label.contains('\n'))?;
    let readable = boxes.is_some() || corners::is_cut(&content[at..]);
    readable.then_some(Found { end, label: (!label.is_empty()).then_some(label), boxes })
}

/// The boxes from `start` on, and where their tag ends: behind its closing token, or without that behind the boxes.
fn boxes_after(text: &str, start: usize, next: Option<&Token>) -> Option<(usize, Option<Vec<Corners>>)> {
    let content = up_to(text, start, next);
    if let Some(close) = next.filter(|next| next.kind == Kind::DetEnd) {
        return Some((close.end, corners::all(content)));
    }
    match corners::leading(content) {
        Some((boxes, used)) => {
            let cut = next.is_none() && is_cut_token(&content[used..], "<|/det|>");
            Some((if cut { text.len() } else { start + used }, boxes))
        }
        None => (next.is_none() && corners::is_cut(content)).then(|| (text.len(), corners::cut(content))),
    }
}

fn up_to<'a>(text: &'a str, start: usize, next: Option<&Token>) -> &'a str {
    let part = &text[start..next.map_or(text.len(), |next| next.start)];
    #[cfg(test)]
    crate::work::add(part.len());
    part
}

/// Length of a known label that makes up the line before `<|det|>`.
fn lead(before: &str) -> usize {
    let is_line =
        |label: &&&str| before.strip_suffix(**label).is_some_and(|rest| rest.is_empty() || rest.ends_with('\n'));
    LABELS.iter().find(is_line).map_or(0, |label| label.len())
}

/// Whether `<PAGE>` stands alone in its line, or before a tag.
fn is_page_mark(text: &str, tokens: &[Token], opens_line: bool) -> bool {
    let Some((mark, rest)) = tokens.split_first() else { return false };
    let next = rest.first();
    let behind = up_to(text, mark.end, next);
    let tag_follows = next.is_some_and(|next| matches!(next.kind, Kind::Ref | Kind::Det)) && is_blank(behind);
    let line = behind.split('\n').next().unwrap_or_default();
    tag_follows || opens_line && (is_blank(line) || bare(line).is_some())
}

/// The pieces so far. Text between tags is searched for tags without special tokens.
struct Split<'a> {
    text: &'a str,
    pieces: Vec<Piece<'a>>,
    /// Bytes that are in pieces.
    done: usize,
    /// Whether a line begins there, or a page.
    opens_line: bool,
    /// Whether a block of code is open.
    fenced: bool,
}

impl<'a> Split<'a> {
    fn tag(&mut self, start: usize, Found { end, label, boxes }: Found<'a>) {
        // Where only the tokens around a label were lost it stands before `<|det|>`.
        let start = start - if label.is_none() { lead(&self.text[self.done..start]) } else { 0 };
        self.text_up_to(start);
        let whole = &self.text[start..end];
        let label = label.unwrap_or_else(|| whole.split('<').next().unwrap_or_default());
        self.pieces.push(Piece::Tag(Tag { whole, label, boxes }));
        (self.done, self.opens_line) = (end, false);
    }

    fn leave_out(&mut self, range: Range<usize>, piece: Option<Piece<'a>>) {
        self.text_up_to(range.start);
        self.pieces.extend(piece);
        (self.done, self.opens_line) = (range.end, true);
    }

    fn text_up_to(&mut self, end: usize) {
        let (mut at, mut opens_line) = (self.done, self.opens_line);
        while at < end {
            let line_end = self.text[at..end].find('\n').map_or(end, |length| at + length);
            #[cfg(test)]
            crate::work::add(line_end - at);
            if opens_line && is_fence(&self.text[at..line_end]) {
                self.fenced = !self.fenced;
            }
            while opens_line
                && !self.fenced
                && let Some((tag, length)) = bare(&self.text[at..line_end])
            {
                self.push_text(at);
                self.pieces.push(Piece::Tag(tag));
                at += length;
                self.done = at;
            }
            at = line_end + 1;
            opens_line = true;
        }
        self.push_text(end);
    }

    fn push_text(&mut self, end: usize) {
        if end > self.done {
            self.pieces.push(Piece::Text(&self.text[self.done..end]));
            self.done = end;
        }
    }
}

/// A tag without special tokens at the start of a line, and its length with blanks behind it: a known label and one box. Behind it the line ends, or text
/// follows at once, as it never does behind an expression or a citation.
fn bare(line: &str) -> Option<(Tag<'_>, usize)> {
    #[cfg(test)]
    crate::work::add(LONGEST_LABEL);
    let at = line.bytes().take(LONGEST_LABEL + 2).position(|byte| byte == b'[')?;
    let label = line[..at].strip_suffix(' ').unwrap_or(&line[..at]);
    if !LABELS.contains(&label) {
        return None;
    }
    let (boxes, used) = corners::leading_one(&line[at..])?;
    let end = at + used;
    let follows = line[end..].chars().next();
    let glued = follows.is_some_and(|next| next.is_alphanumeric() || "#*<$\\!".contains(next));
    let whole = &line[..end];
    let length = if glued { end } else { line.len() };
    (glued || is_blank(&line[end..])).then_some((Tag { whole, label, boxes: Some(boxes) }, length))
}

fn tokens(text: &str) -> Vec<Token> {
    #[cfg(test)]
    crate::work::add(text.len());
    let token = |(start, _)| {
        let rest: &str = &text[start..];
        let (kind, length) = special(rest).or_else(|| {
            let mark = PAGE_MARKS.into_iter().find(|mark| rest.starts_with(mark))?;
            Some((Kind::Page, mark.len()))
        })?;
        Some(Token { kind, start, end: start + length })
    };
    text.match_indices('<').filter_map(token).collect()
}

/// A special token at the start, with bars of either width: the tokenizer has both.
fn special(text: &str) -> Option<(Kind, usize)> {
    const BARS: [char; 2] = ['|', '｜'];
    const KINDS: [(&str, Kind); 6] = [
        ("ref", Kind::Ref),
        ("/ref", Kind::RefEnd),
        ("det", Kind::Det),
        ("/det", Kind::DetEnd),
        ("end▁of▁sentence", Kind::End),
        ("end_of_sentence", Kind::End),
    ];
    let inner = text.strip_prefix('<')?.strip_prefix(BARS)?;
    let (rest, kind) = KINDS.into_iter().find_map(|(name, kind)| Some((inner.strip_prefix(name)?, kind)))?;
    let rest = rest.strip_prefix(BARS)?.strip_prefix('>')?;
    Some((kind, text.len() - rest.len()))
}

fn is_blank(text: &str) -> bool {
    text.chars().all(char::is_whitespace)
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start_matches(' ');
    line.starts_with("```") || line.starts_with("~~~")
}

/// Whether text can be the beginning of a label at which an answer was cut off.
fn is_cut_label(text: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let (label, token) = text.split_at(text.find('<').unwrap_or(text.len()));
    label.len() <= LONGEST_LABEL && label.chars().all(word) && is_cut_token(token, "<|/ref|>")
}

/// Whether text is the beginning of a token, or nothing.
fn is_cut_token(text: &str, token: &str) -> bool {
    token.starts_with(&*text.trim_start().replace('｜', "|"))
}

#[cfg(test)]
mod tests;
