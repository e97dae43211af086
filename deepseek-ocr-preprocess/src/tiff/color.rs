//! What the samples of a TIFF pixel mean: its photometric interpretation, and alpha.

use crate::color::{Sample, widen};
use image::Pixel;

/// The colours of a page.
pub(super) enum Color {
    Grey,
    /// White at zero.
    InvertedGrey,
    Palette(Vec<[u8; 3]>),
    Rgb,
    Cmyk,
    YCbCr(Box<YCbCr>),
}

/// A sample that says how opaque a pixel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opacity {
    /// Which sample of the pixel it is.
    pub(super) index: usize,
    /// Whether the colours were multiplied by it.
    pub(super) associated: bool,
}

impl Color {
    /// Samples of a pixel that are colour.
    pub(super) fn samples(&self) -> usize {
        match self {
            Self::Grey | Self::InvertedGrey | Self::Palette(_) => 1,
            Self::Rgb | Self::YCbCr(_) => 3,
            Self::Cmyk => 4,
        }
    }

    /// The sample that is opaque where one says how opaque a pixel is: beside indices it is not scaled either.
    pub(super) fn opaque(&self) -> u16 {
        if let Self::Palette(colors) = self { colors.len().saturating_sub(1).max(1) as u16 } else { u16::MAX }
    }

    /// Paints pixels: the samples of each, 65535 at their most or indices into the palette, and where it goes. `pixel` makes it of its
    /// colours and its samples.
    pub(super) fn paint<'a, P: Pixel>(
        &self,
        pixels: impl Iterator<Item = (&'a [u16], &'a mut [P::Subpixel])>,
        pixel: impl Fn([u16; 3], &[u16]) -> P,
    ) where
        P::Subpixel: 'a,
    {
        let each =
            |samples: &[u16], out: &mut [P::Subpixel], color| out.copy_from_slice(pixel(color, samples).channels());
        match self {
            Self::Grey => pixels.for_each(|(v, out)| each(v, out, [v[0]; 3])),
            Self::InvertedGrey => pixels.for_each(|(v, out)| each(v, out, [u16::MAX - v[0]; 3])),
            Self::Palette(colors) => pixels.for_each(|(v, out)| {
                let color = colors.get(usize::from(v[0])).map_or([0; 3], |color| color.map(widen));
                each(v, out, color);
            }),
            Self::Rgb => pixels.for_each(|(v, out)| each(v, out, [v[0], v[1], v[2]])),
            Self::Cmyk => pixels.for_each(|(v, out)| {
                let inks = [0, 1, 2, 3].map(|i| v[i].to_byte());
                each(v, out, cmyk(inks).map(widen));
            }),
            Self::YCbCr(tables) => pixels.for_each(|(v, out)| {
                let samples = [0, 1, 2].map(|i| v[i].to_byte());
                each(v, out, tables.rgb(samples).map(widen));
            }),
        }
    }
}

/// As Pillow converts: what the inks let through of the light, black on top of each of the others.
fn cmyk([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    let light = 255 - u32::from(black);
    [cyan, magenta, yellow].map(|ink| (light - (u32::from(ink) * light + 127) / 255) as u8)
}

/// YCbCr to RGB in the fixed-point numbers that libtiff and libjpeg use, 16 bits behind the point.
pub(super) struct YCbCr {
    luma: [i32; 256],
    red: [i32; 256],
    green: [[i32; 256]; 2],
    blue: [i32; 256],
}

impl YCbCr {
    /// The shares of red, green and blue in luma by ITU-R BT.601, TIFF's default.
    pub(super) const BT_601: [f64; 3] = [0.299, 0.587, 0.114];
    /// Black and white of luma and of both differences without headroom, TIFF's default for 8 bits.
    pub(super) const FULL_RANGE: [f64; 6] = [0.0, 255.0, 128.0, 255.0, 128.0, 255.0];

    /// Tables for `YCbCrCoefficients` and `ReferenceBlackWhite`.
    pub(super) fn new([red, green, blue]: [f64; 3], range: [f64; 6]) -> Self {
        // Neither a division by zero nor absurd ranges may leave 32 bits.
        let spread = |code: usize, black: f64, white: f64, most: f64| {
            let width = if white == black { 1.0 } else { white - black };
            ((code as f64 - black) * most / width).clamp(-4096.0, 4096.0) as i32
        };
        let difference = |i: usize| move |code: usize| spread(code, range[2 * i], range[2 * i + 1], 127.0);
        let fixed = |factor: f64| (factor.clamp(0.0, 2.0) * 65536.0 + 0.5) as i32;
        let (cb, cr) = (difference(1), difference(2));
        let (from_red, from_blue) = (2.0 - 2.0 * red, 2.0 - 2.0 * blue);
        let (to_red, to_blue) = (fixed(from_red), fixed(from_blue));
        let (less_red, less_blue) = (fixed(from_red * red / green), fixed(from_blue * blue / green));
        const HALF: i32 = 1 << 15;
        Self {
            luma: std::array::from_fn(|code| spread(code, range[0], range[1], 255.0)),
            red: std::array::from_fn(|code| (to_red * cr(code) + HALF) >> 16),
            green: [
                std::array::from_fn(|code| HALF - less_blue * cb(code)),
                std::array::from_fn(|code| -less_red * cr(code)),
            ],
            blue: std::array::from_fn(|code| (to_blue * cb(code) + HALF) >> 16),
        }
    }

    fn rgb(&self, [y, cb, cr]: [u8; 3]) -> [u8; 3] {
        let (y, cb, cr) = (self.luma[usize::from(y)], usize::from(cb), usize::from(cr));
        let green = (self.green[0][cb] + self.green[1][cr]) >> 16;
        [y + self.red[cr], y + green, y + self.blue[cb]].map(|value| value.clamp(0, 255) as u8)
    }
}
