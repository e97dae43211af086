//! `<|ref|>LABEL<|/ref|><|det|>[[x1, y1, x2, y2], ..]<|/det|>`: the tags with which the model says where things are.

use super::{PixelBox, Region};
use std::ops::Range;

const REF: &str = "<|ref|>";
const REF_END: &str = "<|/ref|>";
const DET: &str = "<|det|>";
const DET_END: &str = "<|/det|>";

/// The label of pictures.
const IMAGE: &str = "<|ref|>image<|/ref|>";

/// Coordinates run from 0 to this.
const SCALE: f64 = 999.0;

/// One tag: its place in the text, and its parts.
struct Tag<'a> {
    span: Range<usize>,
    whole: &'a str,
    label: &'a str,
    boxes: &'a str,
}

/// The released clean-up: pictures become links (all occurrences of equal tags at once), other tags go, and where any goes
/// two LaTeX operators are spelled out.
pub(super) fn markdown(text: &str) -> String {
    let (images, others): (Vec<_>, Vec<_>) = tags(text).into_iter().partition(|tag| tag.whole.contains(IMAGE));
    let mut out = text.to_owned();
    for (k, tag) in images.iter().enumerate() {
        out = out.replace(tag.whole, &format!("![](images/{k}.jpg)\n"));
    }
    for tag in &others {
        out = out.replace(tag.whole, "");
    }
    if others.is_empty() { out } else { out.replace("\\coloneqq", ":=").replace("\\eqqcolon", "=:") }
}

pub(super) fn regions(text: &str, (width, height): (u32, u32)) -> Vec<Region> {
    let tags = tags(text);
    let ends = tags.iter().skip(1).map(|tag| tag.span.start).chain([text.len()]);
    let with_ends = tags.iter().zip(ends);
    let regions = with_ends.filter_map(|(tag, end)| {
        let boxes = parse_boxes(tag.boxes)?.into_iter().map(|[x1, y1, x2, y2]| PixelBox {
            x1: pixel(x1, width),
            y1: pixel(y1, height),
            x2: pixel(x2, width),
            y2: pixel(y2, height),
        });
        let text = text[tag.span.end..end].trim().to_owned();
        Some(Region { label: tag.label.to_owned(), boxes: boxes.collect(), text })
    });
    regions.collect()
}

/// The non-greedy match of the released expression: from each `<|ref|>` the nearest ends that follow in order.
fn tags(text: &str) -> Vec<Tag<'_>> {
    const BETWEEN: &str = "<|/ref|><|det|>";
    let (mut tags, mut from) = (Vec::new(), 0);
    while let Some(start) = find(text, REF, from) {
        let label = start + REF.len();
        let Some(between) = find(text, BETWEEN, label) else { break };
        let boxes = between + BETWEEN.len();
        let Some(end) = find(text, DET_END, boxes) else { break };
        let span = start..end + DET_END.len();
        let (whole, label, boxes) = (&text[span.clone()], &text[label..between], &text[boxes..end]);
        from = span.end;
        tags.push(Tag { span, whole, label, boxes });
    }
    debug_assert!(BETWEEN.starts_with(REF_END) && BETWEEN.ends_with(DET));
    tags
}

fn find(text: &str, what: &str, from: usize) -> Option<usize> {
    text[from..].find(what).map(|at| from + at)
}

/// `[[x1, y1, x2, y2], ..]` with numbers in any spelling of JSON; anything else is no list of boxes.
fn parse_boxes(text: &str) -> Option<Vec<[f64; 4]>> {
    let boxes: Vec<Vec<f64>> = serde_json::from_str(text.trim()).ok()?;
    boxes.into_iter().map(|corners| corners.try_into().ok()).collect()
}

/// `trunc(c / 999 * side)`, kept on the page. The cast saturates.
fn pixel(coordinate: f64, side: u32) -> u32 {
    ((coordinate / SCALE * f64::from(side)) as u32).min(side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_ends_where_the_next_begins() {
        let text = "<|ref|>title<|/ref|><|det|>[[83, 36, 914, 97]]<|/det|>\n# A\n\n<|ref|>text<|/ref|><|det|>[[0,0,999,999],[1,2,3,4]]<|/det|>b";
        let regions = regions(text, (1500, 500));
        assert_eq!(regions.len(), 2);
        assert_eq!((regions[0].label.as_str(), regions[0].text.as_str()), ("title", "# A"));
        assert_eq!(regions[0].boxes, [PixelBox { x1: 124, y1: 18, x2: 1372, y2: 48 }]);
        assert_eq!(regions[1].boxes.len(), 2);
        assert_eq!(regions[1].text, "b");
    }

    #[test]
    fn boxes_that_cannot_be_read_are_left_out_and_odd_ones_clamped() {
        let tag = |boxes: &str| format!("<|ref|>x<|/ref|><|det|>{boxes}<|/det|>");
        for broken in
            ["", "[[1,2,3]]", "[[1,2,3,4,5]]", "[1,2,3,4]", "[[1,2,3,4", "__import__('os')", "[[\"1\",2,3,4]]"]
        {
            assert!(regions(&tag(broken), (10, 10)).is_empty(), "{broken}");
        }
        let odd = regions(&tag("[[-5, 1e9, 999.5, 0]]"), (10, 20));
        assert_eq!(odd[0].boxes, [PixelBox { x1: 0, y1: 20, x2: 10, y2: 0 }]);
    }

    #[test]
    fn an_unfinished_tag_is_text() {
        let text = "a <|ref|>title<|/ref|><|det|>[[1, 2";
        assert!(regions(text, (10, 10)).is_empty());
        assert_eq!(markdown(text), text);
    }
}
