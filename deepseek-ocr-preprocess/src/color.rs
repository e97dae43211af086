//! Samples of any kind to opaque 8-bit RGB.

mod ground;

use crate::{Alpha, PageWarning};
use ground::{Ground, Transparent};
use image::{DynamicImage, RgbImage};

/// Opaque RGB: grey is repeated, deep samples are scaled, transparency goes where `alpha` says; and a warning if what the
/// file shows cannot be seen so.
pub(crate) fn to_rgb(image: DynamicImage, alpha: Alpha) -> (RgbImage, Option<PageWarning>) {
    let (width, height) = (image.width(), image.height());
    let rgb = |samples| RgbImage::from_raw(width, height, samples).expect("every pixel became three samples");
    let opaque = |samples| (rgb(samples), None);
    let flat = |(samples, warning)| (rgb(samples), warning);
    match image {
        DynamicImage::ImageRgb8(rgb) => (rgb, None),
        DynamicImage::ImageLuma8(image) => opaque(pixels(image.as_raw(), |&[v]| [v; 3])),
        DynamicImage::ImageLuma16(image) => opaque(pixels(image.as_raw(), |&[v]| [v.to_byte(); 3])),
        DynamicImage::ImageRgb16(image) => opaque(pixels(image.as_raw(), |&rgb: &[u16; 3]| rgb.map(Sample::to_byte))),
        DynamicImage::ImageRgb32F(image) => opaque(pixels(image.as_raw(), |&rgb: &[f32; 3]| rgb.map(Sample::to_byte))),
        DynamicImage::ImageLumaA8(image) => flat(flattened(width, image.as_raw(), |&[v, a]| ([v; 3], a), alpha)),
        DynamicImage::ImageLumaA16(image) => flat(flattened(width, image.as_raw(), |&[v, a]| ([v; 3], a), alpha)),
        DynamicImage::ImageRgba8(image) => flat(flattened(width, image.as_raw(), rgb_and_alpha, alpha)),
        DynamicImage::ImageRgba16(image) => flat(flattened(width, image.as_raw(), rgb_and_alpha, alpha)),
        DynamicImage::ImageRgba32F(image) => flat(flattened(width, image.as_raw(), rgb_and_alpha, alpha)),
        other => flat(flattened(width, other.to_rgba8().as_raw(), rgb_and_alpha, alpha)),
    }
}

fn rgb_and_alpha<T: Copy>(&[r, g, b, a]: &[T; 4]) -> ([T; 3], T) {
    ([r, g, b], a)
}

/// The samples without their transparency; `split` gives the colours of a pixel and its alpha.
fn flattened<T: Sample, const N: usize>(
    width: u32,
    samples: &[T],
    split: impl Fn(&[T; N]) -> ([T; 3], T),
    alpha: Alpha,
) -> (Vec<u8>, Option<PageWarning>) {
    let (stored, _) = samples.as_chunks();
    let bytes = |pixel: &[T; N]| {
        let (rgb, alpha) = split(pixel);
        Transparent { rgb: rgb.map(Sample::to_byte), alpha: alpha.to_byte() }
    };
    let out = match alpha {
        Alpha::Drop => pixels(samples, |pixel| split(pixel).0.map(Sample::to_byte)),
        Alpha::OverWhite => over(samples, &split, Ground::White),
        Alpha::ByContrast => over(samples, &split, ground::choose(width as usize, stored, bytes)),
    };
    let hidden = ground::is_uniform(&out) && ground::is_varied(stored, bytes);
    (out, hidden.then_some(PageWarning::Invisible))
}

fn over<T: Sample, const N: usize>(samples: &[T], split: impl Fn(&[T; N]) -> ([T; 3], T), ground: Ground) -> Vec<u8> {
    // A constant ground makes white, nearly all pages, as fast as it was.
    let mix = |ground: u8| {
        pixels(samples, |pixel| {
            let (rgb, alpha) = split(pixel);
            rgb.map(|value| value.over(alpha, ground))
        })
    };
    match ground {
        Ground::White => mix(255),
        Ground::Black => mix(0),
        Ground::Grey => mix(Ground::Grey.value()),
    }
}

fn pixels<T, const N: usize>(samples: &[T], rgb: impl Fn(&[T; N]) -> [u8; 3]) -> Vec<u8> {
    let (pixels, _) = samples.as_chunks();
    let mut out = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        out.extend_from_slice(&rgb(pixel));
    }
    out
}

/// A sample of an image, black at zero.
pub(crate) trait Sample: Copy {
    /// Scaled to 8 bits, rounded.
    fn to_byte(self) -> u8;

    /// Mixed with an 8-bit `ground` by `alpha`, scaled to 8 bits, rounded once.
    fn over(self, alpha: Self, ground: u8) -> u8;
}

impl Sample for u8 {
    fn to_byte(self) -> u8 {
        self
    }

    fn over(self, alpha: u8, ground: u8) -> u8 {
        let [value, alpha, ground] = [self, alpha, ground].map(u32::from);
        ((value * alpha + ground * (255 - alpha) + 127) / 255) as u8
    }
}

impl Sample for u16 {
    fn to_byte(self) -> u8 {
        // 65535 / 255 = 257
        ((u32::from(self) + 128) / 257) as u8
    }

    fn over(self, alpha: u16, ground: u8) -> u8 {
        const MAX: u64 = u16::MAX as u64;
        // 65535 / 255 = 257
        let (value, alpha, ground) = (u64::from(self), u64::from(alpha), u64::from(ground) * 257);
        let mixed = value * alpha + ground * (MAX - alpha);
        ((mixed * 255 + MAX * MAX / 2) / (MAX * MAX)) as u8
    }
}

/// 255 becomes 65535.
pub(crate) fn widen(byte: u8) -> u16 {
    u16::from(byte) * 257
}

/// White is 1; what lies outside is clamped, and not-a-number is black.
impl Sample for f32 {
    fn to_byte(self) -> u8 {
        (self.clamp(0.0, 1.0) * 255.0).round() as u8
    }

    fn over(self, alpha: f32, ground: u8) -> u8 {
        let (alpha, ground) = (alpha.clamp(0.0, 1.0), f32::from(ground) / 255.0);
        (self.clamp(0.0, 1.0) * alpha + ground * (1.0 - alpha)).to_byte()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, Luma, LumaA, Rgba};

    #[test]
    fn sixteen_bits_are_scaled_not_clipped() {
        for value in 0..=u16::MAX {
            let exact = (f64::from(value) * 255.0 / 65535.0).round();
            assert_eq!(f64::from(value.to_byte()), exact, "{value}");
            assert_eq!(value.over(u16::MAX, 255), value.to_byte());
            assert_eq!(value.over(0, 255), 255);
        }
        let grey: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(1, 1, Luma([40_000]));
        assert_eq!(to_rgb(grey.into(), Alpha::OverWhite).0.as_raw(), &[156; 3]);
    }

    #[test]
    fn eight_bits_over_white_are_rounded() {
        for value in 0..=255u8 {
            for alpha in 0..=255u8 {
                let exact = f64::from(value) * f64::from(alpha) / 255.0 + 255.0 - f64::from(alpha);
                assert!((f64::from(value.over(alpha, 255)) - exact).abs() <= 0.5, "{value} {alpha}");
            }
        }
    }

    #[test]
    fn grey_with_alpha_follows_the_choice() {
        let image = || DynamicImage::from(ImageBuffer::<LumaA<u8>, _>::from_pixel(1, 1, LumaA([40, 0])));
        assert_eq!(to_rgb(image(), Alpha::OverWhite).0.as_raw(), &[255; 3]);
        assert_eq!(to_rgb(image(), Alpha::Drop).0.as_raw(), &[40; 3]);
    }

    #[test]
    fn floats_outside_the_range_are_clamped() {
        let image: ImageBuffer<Rgba<f32>, _> = ImageBuffer::from_pixel(1, 1, Rgba([f32::NAN, -3.0, 9.0, 1.0]));
        assert_eq!(to_rgb(image.into(), Alpha::OverWhite).0.as_raw(), &[0, 0, 255]);
    }
}
