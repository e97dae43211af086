//! Samples of any depth to 16 bits.

use half::f16;

/// How samples are stored.
pub(super) enum Samples {
    /// Whole numbers of at most 8 bits, and what each becomes.
    Narrow { bits: u32, values: Vec<u16> },
    /// Whole numbers of 9 to 16 bits.
    Wide { bits: u32, scaled: bool },
    /// Floating-point numbers of 16, 32 or 64 bits, and the one that is white.
    Float { bits: u32, white: f64 },
}

impl Samples {
    /// Whole numbers, which are scaled to 16 bits or kept as indices.
    pub(super) fn whole(bits: u32, scaled: bool) -> Self {
        match bits {
            0..=8 => Self::Narrow {
                bits,
                values: (0..1 << bits).map(|v| if scaled { scale(v, bits) } else { v as u16 }).collect(),
            },
            _ => Self::Wide { bits, scaled },
        }
    }

    pub(super) fn bits(&self) -> u32 {
        match self {
            Self::Narrow { bits, .. } | Self::Wide { bits, .. } | Self::Float { bits, .. } => *bits,
        }
    }

    /// Reads samples, one after the other in `bytes`, to `out`.
    pub(super) fn read<'a>(&self, bytes: &[u8], big_endian: bool, out: impl Iterator<Item = &'a mut u16>) {
        match self {
            Self::Narrow { bits: 8, values } => {
                out.zip(bytes).for_each(|(out, &byte)| *out = values[usize::from(byte)]);
            }
            Self::Narrow { bits, values } => {
                out.zip(packed(bytes, *bits)).for_each(|(out, v)| *out = values[v as usize])
            }
            Self::Wide { bits: 16, .. } => out.zip(bytes.as_chunks().0).for_each(|(out, &bytes)| {
                *out = if big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) };
            }),
            Self::Wide { bits, scaled: true } => {
                out.zip(packed(bytes, *bits)).for_each(|(out, v)| *out = scale(v, *bits));
            }
            Self::Wide { bits, scaled: false } => out.zip(packed(bytes, *bits)).for_each(|(out, v)| *out = v as u16),
            // A cast saturates, and makes black of what is not a number.
            Self::Float { bits, white } => out.zip(floats(bytes, *bits, big_endian)).for_each(|(out, value)| {
                *out = (value / white * f64::from(u16::MAX)).round() as u16;
            }),
        }
    }
}

/// Floating-point numbers of 16, 32 or 64 bits.
pub(super) fn floats(bytes: &[u8], bits: u32, big_endian: bool) -> impl Iterator<Item = f64> {
    bytes.chunks_exact(bits as usize / 8).map(move |value| {
        let mut le = [0; 8];
        le[..value.len()].copy_from_slice(value);
        if big_endian {
            le[..value.len()].reverse();
        }
        let [a, b, c, d, ..] = le;
        match bits {
            16 => f16::from_le_bytes([a, b]).to_f64(),
            32 => f64::from(f32::from_le_bytes([a, b, c, d])),
            _ => f64::from_le_bytes(le),
        }
    })
}

/// Whole numbers of `bits` bits, the highest bit of a byte first.
fn packed(bytes: &[u8], bits: u32) -> impl Iterator<Item = u32> {
    let (mut bytes, mut held, mut value) = (bytes.iter(), 0, 0u32);
    std::iter::from_fn(move || {
        while held < bits {
            value = value << 8 | u32::from(*bytes.next()?);
            held += 8;
        }
        held -= bits;
        Some(value >> held & ((1 << bits) - 1))
    })
}

fn scale(value: u32, bits: u32) -> u16 {
    let most = (1 << bits) - 1;
    ((value * u32::from(u16::MAX) + most / 2) / most) as u16
}
