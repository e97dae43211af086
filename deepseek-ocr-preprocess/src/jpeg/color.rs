//! Colour spaces of JPEG components to red, green and blue, in libjpeg's whole numbers (jdcolor.c).

/// What the components of a picture mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    Grey,
    Rgb,
    YCbCr,
    /// Cyan, magenta, yellow and black, inverted: 255 is no ink. All programs write them so, though the standard says nothing.
    Cmyk,
    /// The same, of which the first three are coded as luminance and chrominance.
    Ycck,
}

impl Space {
    /// Red, green and blue of a row of pixels whose components are `rows`.
    pub(super) fn convert(self, rows: &[&[u8]], out: &mut [u8]) {
        let pixels = out.as_chunks_mut::<3>().0.iter_mut();
        match (self, rows) {
            (Self::Rgb, [r, g, b]) => {
                pixels.zip(*r).zip(*g).zip(*b).for_each(|(((out, &r), &g), &b)| *out = [r, g, b]);
            }
            (Self::YCbCr, [y, cb, cr]) => {
                pixels.zip(*y).zip(*cb).zip(*cr).for_each(|(((out, &y), &cb), &cr)| *out = from_luminance(y, cb, cr));
            }
            (Self::Cmyk, [c, m, y, k]) => {
                pixels
                    .zip(*c)
                    .zip(*m)
                    .zip(*y)
                    .zip(*k)
                    .for_each(|((((out, &c), &m), &y), &k)| *out = on_black([c, m, y], k));
            }
            (Self::Ycck, [y, cb, cr, k]) => {
                pixels.zip(*y).zip(*cb).zip(*cr).zip(*k).for_each(|((((out, &y), &cb), &cr), &k)| {
                    // The conversion gives ink, of which the inverse is stored.
                    *out = on_black(from_luminance(y, cb, cr).map(|ink| 255 - ink), k);
                });
            }
            // One component, or more than the space has: the first is the brightness.
            (_, [grey, ..]) => pixels.zip(*grey).for_each(|(out, &grey)| *out = [grey; 3]),
            (_, []) => {}
        }
    }
}

/// `value * 2^16`, rounded.
const fn fixed(value: f64) -> i32 {
    (value * 65536.0 + 0.5) as i32
}

/// ITU-R BT.601 at full range.
fn from_luminance(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    const HALF: i32 = 1 << 15;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((fixed(1.402) * cr + HALF) >> 16);
    let green = y + ((-fixed(0.344_14) * cb - fixed(0.714_14) * cr + HALF) >> 16);
    let blue = y + ((fixed(1.772) * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

/// Colours over black, both inverted inks: light is what both let through. Pillow's whole numbers (`cmyk2rgb` in Convert.c).
fn on_black(inverted: [u8; 3], black: u8) -> [u8; 3] {
    let light = i32::from(black);
    inverted.map(|value| {
        let product = (255 - i32::from(value)) * light + 128;
        (light - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
    })
}
