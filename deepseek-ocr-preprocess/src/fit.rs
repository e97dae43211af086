//! A whole page into one square view: stretched (Tiny, Small) or padded with grey (Base, Large, Gundam's page view).

use crate::resize::resize;
use deepseek_ocr_core::{Fit, View};
use image::{Rgb, RgbImage, imageops};

/// The grey around a padded page: `int(0.5 * 255)` of the released processor's mean.
const GREY: Rgb<u8> = Rgb([127; 3]);

/// Where a page lies in its padded view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Placement {
    /// Left edge of the page in the view.
    pub x: u32,
    /// Top edge of the page in the view.
    pub y: u32,
    /// Width of the page in the view.
    pub width: u32,
    /// Height of the page in the view.
    pub height: u32,
}

impl Placement {
    /// The largest placement of a `width` x `height` page in a square of `side`, centred.
    ///
    /// Halves are rounded to even, as in the released processor. A page that is so long that its short side rounds to
    /// nothing keeps one pixel there.
    pub fn padded(width: u32, height: u32, side: u32) -> Self {
        let scaled = |short: u32, long: u32| {
            // The order of the operations decides the last bit: a quotient, then a product.
            let exact = f64::from(short) / f64::from(long) * f64::from(side);
            (exact.round_ties_even() as u32).clamp(1, side)
        };
        let (inner_width, inner_height) = match width.cmp(&height) {
            std::cmp::Ordering::Equal => (side, side),
            std::cmp::Ordering::Greater => (side, scaled(height, width)),
            std::cmp::Ordering::Less => (scaled(width, height), side),
        };
        let offset = |inner: u32| (f64::from(side - inner) * 0.5).round_ties_even() as u32;
        Self { x: offset(inner_width), y: offset(inner_height), width: inner_width, height: inner_height }
    }
}

/// The whole image in a square view of `side`.
pub(crate) fn fit(image: &RgbImage, side: u32, fit: Fit) -> View {
    match fit {
        Fit::Stretch => View::new(side, resize(image, side, side).into_raw()),
        Fit::Pad => pad(image, side),
        _ => unreachable!("core has no other way to fit a page"),
    }
}

fn pad(image: &RgbImage, side: u32) -> View {
    let place = Placement::padded(image.width(), image.height(), side);
    let inner = resize(image, place.width, place.height);
    if (place.width, place.height) == (side, side) {
        return View::new(side, inner.into_raw());
    }
    let mut canvas = RgbImage::from_pixel(side, side, GREY);
    imageops::replace(&mut canvas, &inner, i64::from(place.x), i64::from(place.y));
    View::new(side, canvas.into_raw())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        // 5 / 2048 * 1024 = 2.5 -> 2; (1024 - 2) / 2 = 511
        assert_eq!(Placement::padded(2048, 5, 1024), Placement { x: 0, y: 511, width: 1024, height: 2 });
        // 7 / 2048 * 1024 = 3.5 -> 4; (1024 - 4) / 2 = 510
        assert_eq!(Placement::padded(7, 2048, 1024), Placement { x: 510, y: 0, width: 4, height: 1024 });
        // (512 - 117) / 2 = 197.5 -> 198
        assert_eq!(Placement::padded(3828, 873, 512), Placement { x: 0, y: 198, width: 512, height: 117 });
    }

    #[test]
    fn a_line_keeps_one_pixel() {
        let line = RgbImage::from_pixel(12_000, 1, Rgb([9, 8, 7]));
        let view = fit(&line, 1024, Fit::Pad);
        let coloured = view.pixels().chunks_exact(3).filter(|&pixel| pixel == [9, 8, 7]).count();
        assert_eq!(coloured, 1024);
    }

    #[test]
    fn stretching_leaves_no_grey() {
        let page = RgbImage::from_pixel(30, 90, Rgb([200; 3]));
        assert!(fit(&page, 512, Fit::Stretch).pixels().iter().all(|&sample| sample == 200));
    }

    proptest! {
        #[test]
        fn a_placement_fills_one_side_and_stays_inside(
            w in 1u32..70_000, h in 1u32..70_000, side in prop::sample::select(vec![512u32, 640, 1024, 1280])
        ) {
            let place = Placement::padded(w, h, side);
            prop_assert!(place.width == side || place.height == side);
            prop_assert!(place.width >= 1 && place.height >= 1);
            prop_assert!(place.x + place.width <= side && place.y + place.height <= side);
            prop_assert!((place.x * 2 + place.width).abs_diff(side) <= 1);
            prop_assert!((place.y * 2 + place.height).abs_diff(side) <= 1);
        }
    }
}
