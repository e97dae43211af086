//! Tags as Markdown, and as regions of the page.

use super::{
    PixelBox, Region,
    corners::{Corners, SCALE},
    tags::{Piece, pieces},
};
use std::collections::HashMap;

/// The label of pictures.
const IMAGE: &str = "image";

/// The released clean-up: pictures become links, equal tags to the same one, other tags go, and where any goes two LaTeX operators
/// are spelled out.
pub(super) fn markdown(text: &str) -> String {
    let (mut out, mut links, mut images, mut others) = (String::with_capacity(text.len()), HashMap::new(), 0, false);
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Tag(tag) if tag.label == IMAGE => {
                let link = links.entry(tag.whole).or_insert(images);
                out.push_str(&format!("![](images/{link}.jpg)\n"));
                images += 1;
            }
            Piece::Tag(_) => others = true,
            Piece::Page => {}
        }
    }
    if others { out.replace("\\coloneqq", ":=").replace("\\eqqcolon", "=:") } else { out }
}

/// Regions with the text up to the next tag, or to the next page.
pub(super) fn regions(text: &str, size: (u32, u32)) -> Vec<Region> {
    let (mut regions, mut open): (Vec<Region>, bool) = (Vec::new(), false);
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) if open => regions.last_mut().into_iter().for_each(|region| region.text.push_str(text)),
            Piece::Text(_) => {}
            Piece::Tag(tag) => {
                let boxes: Option<Vec<_>> =
                    tag.boxes.into_iter().flatten().map(|corners| on_page(corners, size)).collect();
                let boxes = boxes.filter(|boxes| !boxes.is_empty());
                open = boxes.is_some();
                regions.extend(boxes.map(|boxes| Region { label: tag.label.to_owned(), boxes, text: String::new() }));
            }
            Piece::Page => open = false,
        }
    }
    regions.iter_mut().for_each(|region| region.text = region.text.trim().to_owned());
    regions
}

/// Nothing on a page without pixels.
fn on_page([x1, y1, x2, y2]: Corners, (width, height): (u32, u32)) -> Option<PixelBox> {
    let ((x1, x2), (y1, y2)) = (edges(x1, x2, width)?, edges(y1, y2, height)?);
    Some(PixelBox { x1, y1, x2, y2 })
}

/// Both edges in pixels, the lower one first, at least a pixel apart.
fn edges(a: f64, b: f64, side: u32) -> Option<(u32, u32)> {
    let (low, high) = (pixel(a.min(b), side), pixel(a.max(b), side));
    let low = low.min(side.checked_sub(1)?);
    Some((low, high.max(low + 1)))
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
        for broken in ["", "[]", "[[1,2,3]]", "[[1,2,3,4,5]]", "[[1,2,3,4", "__import__('os')", "[[\"1\",2,3,4]]"] {
            assert!(regions(&tag(broken), (10, 10)).is_empty(), "{broken}");
            assert_eq!(markdown(&format!("a{}b", tag(broken))), "ab", "{broken}");
        }
        let odd = regions(&tag("[[-5, 1e9, 999.5, 0]]"), (10, 20));
        assert_eq!(odd[0].boxes, [PixelBox { x1: 0, y1: 0, x2: 10, y2: 20 }]);
    }

    #[test]
    fn corners_in_any_order_give_the_same_box() {
        let expected = [PixelBox { x1: 124, y1: 18, x2: 1372, y2: 48 }];
        for boxes in ["[[83,36,914,97]]", "[[914,97,83,36]]", "[[914,36,83,97]]", "[[83,97,914,36]]"] {
            let text = format!("<|ref|>x<|/ref|><|det|>{boxes}<|/det|>");
            assert_eq!(regions(&text, (1500, 500))[0].boxes, expected, "{boxes}");
        }
    }

    #[test]
    fn every_box_has_pixels_of_its_page() {
        let numbers = ["-1e300", "-5", "0", "0.4", "1", "500", "998.9", "999", "1000", "1e300"];
        let sides = [1, 2, 3, 640, u32::MAX];
        for (a, b) in numbers.iter().flat_map(|a| numbers.iter().map(move |b| (a, b))) {
            let text = format!("<|ref|>x<|/ref|><|det|>[[{a}, {b}, {b}, {a}], [{a}, 0, {a}, 999]]<|/det|>");
            for size in sides.into_iter().flat_map(|width| sides.map(|height| (width, height))) {
                for b in &regions(&text, size)[0].boxes {
                    assert!(b.x1 < b.x2 && b.x2 <= size.0 && b.y1 < b.y2 && b.y2 <= size.1, "{b:?} of {size:?}");
                }
            }
        }
        let at_the_border = regions("<|ref|>x<|/ref|><|det|>[[999, 999, 999, 999]]<|/det|>", (30, 20));
        assert_eq!(at_the_border[0].boxes, [PixelBox { x1: 29, y1: 19, x2: 30, y2: 20 }]);
        assert!(regions("<|ref|>x<|/ref|><|det|>[[1, 2, 3, 4]]<|/det|>", (0, 5)).is_empty());
    }
}
