//! What a transparent image is laid over: white, unless too much of it would not be seen there.

/// What lies behind the transparent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ground {
    White,
    Black,
    /// For light and dark on one page.
    Grey,
}

/// A pixel before it is laid over something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transparent {
    pub(super) rgb: [u8; 3],
    pub(super) alpha: u8,
}

/// How much two neighbours must differ over some ground to be an outline: an eighth of what is possible.
const OUTLINE: u32 = 32;

/// An outline vanishes over a ground where less than this part of its contrast is left.
const LEFT: u32 = 8;

/// White is left if more than this part of the outlines vanishes: one in four.
const VANISHED: u64 = 4;

/// How much pixels may differ and count as alike.
const ALIKE: u8 = 8;

impl Ground {
    const ALL: [Self; 3] = [Self::White, Self::Black, Self::Grey];

    pub(super) fn value(self) -> u8 {
        match self {
            Self::White => 255,
            Self::Black => 0,
            Self::Grey => 128,
        }
    }
}

/// White, if most outlines of the image are seen over it, else the ground over which the fewest vanish.
pub(super) fn choose<P>(width: usize, pixels: &[P], transparent: impl Fn(&P) -> Transparent) -> Ground {
    if pixels.iter().all(|pixel| transparent(pixel).alpha == u8::MAX) {
        return Ground::White;
    }
    let (mut outlines, mut vanished) = (0, [0; Ground::ALL.len()]);
    let mut compare = |a: &P, b: &P| {
        let (a, b) = (transparent(a), transparent(b));
        if a == b {
            return;
        }
        let seen = Ground::ALL.map(|ground| contrast(a, b, u32::from(ground.value())));
        let most = seen.into_iter().fold(0, u32::max);
        if most >= OUTLINE {
            outlines += 1;
            for (vanished, seen) in vanished.iter_mut().zip(seen) {
                *vanished += u64::from(seen * LEFT < most);
            }
        }
    };
    for row in pixels.chunks_exact(width) {
        row.windows(2).for_each(|pair| compare(&pair[0], &pair[1]));
    }
    pixels.iter().zip(pixels.iter().skip(width)).for_each(|(a, b)| compare(a, b));
    if vanished[0] * VANISHED <= outlines {
        return Ground::White;
    }
    let counted = Ground::ALL.into_iter().zip(vanished);
    counted.min_by_key(|&(_, vanished)| vanished).map_or(Ground::White, |(ground, _)| ground)
}

/// How far two pixels differ over a ground, in the channel where they differ most.
fn contrast(a: Transparent, b: Transparent, ground: u32) -> u32 {
    let over = |value: u8, alpha: u8| u32::from(value) * u32::from(alpha) + ground * u32::from(u8::MAX - alpha);
    let differ = |channel: usize| over(a.rgb[channel], a.alpha).abs_diff(over(b.rgb[channel], b.alpha));
    (0..3).map(differ).fold(0, u32::max) / u32::from(u8::MAX)
}

/// Whether RGB samples are alike all over.
pub(super) fn is_uniform(samples: &[u8]) -> bool {
    let (pixels, _) = samples.as_chunks::<3>();
    let Some(first) = pixels.first() else { return false };
    pixels.iter().all(|pixel| pixel.iter().zip(first).all(|(a, b)| a.abs_diff(*b) < ALIKE))
}

/// Whether pixels differ enough to show something.
pub(super) fn is_varied<P>(pixels: &[P], transparent: impl Fn(&P) -> Transparent) -> bool {
    let samples = |pixel| {
        let Transparent { rgb: [r, g, b], alpha } = transparent(pixel);
        [r, g, b, alpha]
    };
    let Some(first) = pixels.first().map(samples) else { return false };
    let differs = |pixel| samples(pixel).iter().zip(first).any(|(a, b)| u32::from(a.abs_diff(b)) >= OUTLINE);
    pixels.iter().any(differs)
}

#[cfg(test)]
mod tests {
    use crate::{Alpha, Page, PageWarning};
    use image::{DynamicImage, ImageBuffer, LumaA, Rgba, RgbaImage};

    /// Letters of 2 x 7 pixels of `ink`, with soft edges, on a transparent ground, whose hidden colour is `hidden`.
    fn text(ink: [u8; 3], hidden: u8) -> RgbaImage {
        RgbaImage::from_fn(60, 20, |x, y| {
            let alpha = if (4..11).contains(&y) { [0, 120, 255, 255, 120][x as usize % 5] } else { 0 };
            if alpha == 0 { Rgba([hidden, hidden, hidden, 0]) } else { Rgba([ink[0], ink[1], ink[2], alpha]) }
        })
    }

    /// How far the darkest and the lightest sample of a page lie apart.
    fn range(page: &Page) -> u8 {
        let samples = page.rgb().as_raw();
        samples.iter().max().expect("it has pixels") - samples.iter().min().expect("it has pixels")
    }

    #[test]
    fn light_text_on_a_transparent_ground_is_seen() {
        for ink in [[255; 3], [250; 3], [240, 245, 240], [255, 255, 235]] {
            for hidden in [0, 255] {
                let image = DynamicImage::from(text(ink, hidden));
                let grey = DynamicImage::from(ImageBuffer::<LumaA<u8>, _>::from_fn(60, 20, |x, y| {
                    let Rgba([v, _, _, a]) = text(ink, hidden)[(x, y)];
                    LumaA([v, a])
                }));
                for image in
                    [image.to_rgba16().into(), image.to_rgba32f().into(), grey.to_luma_alpha16().into(), image, grey]
                {
                    let page = Page::from(image);
                    assert!(range(&page) > 200, "{ink:?}: {page:?}");
                    assert_eq!(page.warnings(), []);
                }
            }
        }
    }

    #[test]
    fn dark_and_coloured_text_lies_over_white_as_ever() {
        for ink in [[0; 3], [90, 20, 160], [128; 3], [200; 3], [255, 255, 0]] {
            let image = DynamicImage::from(text(ink, 0));
            let white = Page::reader().with_alpha(Alpha::OverWhite).from_image(image.clone()).expect("it has pixels");
            assert_eq!(Page::from(image), white, "{ink:?}");
            assert_eq!(white.rgb()[(0, 0)], image::Rgb([255; 3]));
        }
    }

    #[test]
    fn a_white_card_with_dark_text_and_transparent_corners_lies_over_white() {
        let card = RgbaImage::from_fn(60, 40, |x, y| {
            let inside = (2..58).contains(&x) && (2..38).contains(&y);
            let ink = inside && (6..34).contains(&y) && (6..54).contains(&x) && x % 3 == 0;
            Rgba([if ink { 20 } else { 255 }, 255, 255, if inside { 255 } else { 0 }])
        });
        assert_eq!(Page::from(DynamicImage::from(card)).rgb()[(0, 0)], image::Rgb([255; 3]));
    }

    #[test]
    fn light_and_dark_text_on_one_page_are_both_seen() {
        let (dark, light) = (text([0; 3], 0), text([255; 3], 0));
        let both = RgbaImage::from_fn(60, 40, |x, y| if y < 20 { dark[(x, y)] } else { light[(x, y - 20)] });
        let page = Page::from(DynamicImage::from(both));
        let ground = page.rgb()[(0, 0)].0[0];
        for y in [6, 26] {
            assert!(page.rgb()[(2, y)].0[0].abs_diff(ground) > 100, "{page:?}");
        }
    }

    #[test]
    fn what_no_ground_shows_is_a_warning() {
        let hidden = RgbaImage::from_fn(9, 9, |x, _| Rgba([x as u8 * 20, 0, 0, 0]));
        let page = Page::from(DynamicImage::from(hidden.clone()));
        assert_eq!(page.warnings(), [PageWarning::Invisible]);
        assert!(page.rgb().as_raw().iter().all(|&sample| sample == 255));
        let dropped = Page::reader().with_alpha(Alpha::Drop).from_image(hidden.into()).expect("it has pixels");
        assert_eq!(dropped.warnings(), []);

        let [white, black] = [[255; 3], [0; 3]].map(|ink| DynamicImage::from(text(ink, ink[0])));
        for (alpha, image) in [(Alpha::OverWhite, white), (Alpha::Drop, black)] {
            let page = Page::reader().with_alpha(alpha).from_image(image).expect("it has pixels");
            assert_eq!(page.warnings(), [PageWarning::Invisible], "{alpha:?}");
        }
        let clear = RgbaImage::from_pixel(9, 9, Rgba([1, 2, 3, 0]));
        assert_eq!(Page::from(DynamicImage::from(clear)).warnings(), []);
    }
}
