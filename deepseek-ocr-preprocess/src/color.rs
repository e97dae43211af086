//! Samples of any kind to opaque 8-bit RGB.

use crate::Alpha;
use image::{DynamicImage, RgbImage};

/// Opaque RGB: grey is repeated, deep samples are scaled, transparency goes where `alpha` says.
pub(crate) fn to_rgb(image: DynamicImage, alpha: Alpha) -> RgbImage {
    let (width, height) = (image.width(), image.height());
    let samples = match image {
        DynamicImage::ImageRgb8(rgb) => return rgb,
        DynamicImage::ImageLuma8(image) => pixels(image.as_raw(), |&[v]| [v; 3]),
        DynamicImage::ImageLumaA8(image) => pixels(image.as_raw(), |&[v, a]| [alpha.flatten(v, a); 3]),
        DynamicImage::ImageRgba8(image) => {
            pixels(image.as_raw(), |&[r, g, b, a]| [r, g, b].map(|v| alpha.flatten(v, a)))
        }
        DynamicImage::ImageLuma16(image) => pixels(image.as_raw(), |&[v]| [v.to_byte(); 3]),
        DynamicImage::ImageLumaA16(image) => pixels(image.as_raw(), |&[v, a]| [alpha.flatten(v, a); 3]),
        DynamicImage::ImageRgb16(image) => pixels(image.as_raw(), |&rgb: &[u16; 3]| rgb.map(Sample::to_byte)),
        DynamicImage::ImageRgba16(image) => {
            pixels(image.as_raw(), |&[r, g, b, a]| [r, g, b].map(|v| alpha.flatten(v, a)))
        }
        DynamicImage::ImageRgb32F(image) => pixels(image.as_raw(), |&rgb: &[f32; 3]| rgb.map(Sample::to_byte)),
        DynamicImage::ImageRgba32F(image) => {
            pixels(image.as_raw(), |&[r, g, b, a]| [r, g, b].map(|v| alpha.flatten(v, a)))
        }
        other => pixels(other.to_rgba8().as_raw(), |&[r, g, b, a]| [r, g, b].map(|v| alpha.flatten(v, a))),
    };
    RgbImage::from_raw(width, height, samples).expect("every pixel became three samples")
}

fn pixels<T, const N: usize>(samples: &[T], rgb: impl Fn(&[T; N]) -> [u8; 3]) -> Vec<u8> {
    let (pixels, _) = samples.as_chunks();
    let mut out = Vec::with_capacity(pixels.len() * 3);
    for pixel in pixels {
        out.extend_from_slice(&rgb(pixel));
    }
    out
}

impl Alpha {
    pub(crate) fn flatten<T: Sample>(self, value: T, alpha: T) -> u8 {
        match self {
            Self::OverWhite => value.over_white(alpha),
            Self::Drop => value.to_byte(),
        }
    }

    /// As [`flatten`](Self::flatten), of a value that was multiplied by its alpha.
    pub(crate) fn flatten_associated(self, value: u16, alpha: u16) -> u8 {
        let (value, alpha, max) = (u32::from(value), u32::from(alpha), u32::from(u16::MAX));
        let value = match self {
            Self::OverWhite => value + max - alpha,
            Self::Drop if alpha == 0 => value,
            Self::Drop => value * max / alpha,
        };
        (value.min(max) as u16).to_byte()
    }
}

/// A sample of an image, black at zero.
pub(crate) trait Sample: Copy {
    /// Scaled to 8 bits, rounded.
    fn to_byte(self) -> u8;

    /// Mixed with white by `alpha`, scaled to 8 bits, rounded once.
    fn over_white(self, alpha: Self) -> u8;
}

impl Sample for u8 {
    fn to_byte(self) -> u8 {
        self
    }

    fn over_white(self, alpha: u8) -> u8 {
        let (value, alpha) = (u32::from(self), u32::from(alpha));
        ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    }
}

impl Sample for u16 {
    fn to_byte(self) -> u8 {
        // 65535 / 255 = 257
        ((u32::from(self) + 128) / 257) as u8
    }

    fn over_white(self, alpha: u16) -> u8 {
        const MAX: u64 = u16::MAX as u64;
        let (value, alpha) = (u64::from(self), u64::from(alpha));
        let mixed = value * alpha + MAX * (MAX - alpha);
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

    fn over_white(self, alpha: f32) -> u8 {
        let alpha = alpha.clamp(0.0, 1.0);
        (self.clamp(0.0, 1.0) * alpha + (1.0 - alpha)).to_byte()
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
            assert_eq!(value.over_white(u16::MAX), value.to_byte());
            assert_eq!(value.over_white(0), 255);
        }
        let grey: ImageBuffer<Luma<u16>, _> = ImageBuffer::from_pixel(1, 1, Luma([40_000]));
        assert_eq!(to_rgb(grey.into(), Alpha::OverWhite).as_raw(), &[156; 3]);
    }

    #[test]
    fn eight_bits_over_white_are_rounded() {
        for value in 0..=255u8 {
            for alpha in 0..=255u8 {
                let exact = f64::from(value) * f64::from(alpha) / 255.0 + 255.0 - f64::from(alpha);
                assert!((f64::from(value.over_white(alpha)) - exact).abs() <= 0.5, "{value} {alpha}");
            }
        }
    }

    #[test]
    fn grey_with_alpha_follows_the_choice() {
        let image = || DynamicImage::from(ImageBuffer::<LumaA<u8>, _>::from_pixel(1, 1, LumaA([40, 0])));
        assert_eq!(to_rgb(image(), Alpha::OverWhite).as_raw(), &[255; 3]);
        assert_eq!(to_rgb(image(), Alpha::Drop).as_raw(), &[40; 3]);
    }

    #[test]
    fn floats_outside_the_range_are_clamped() {
        let image: ImageBuffer<Rgba<f32>, _> = ImageBuffer::from_pixel(1, 1, Rgba([f32::NAN, -3.0, 9.0, 1.0]));
        assert_eq!(to_rgb(image.into(), Alpha::OverWhite).as_raw(), &[0, 0, 255]);
    }
}
