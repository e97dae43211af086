//! From floats to blocks.
//!
//! Plain arithmetic in a fixed order: the blocks of a matrix are the same on every machine.

#[cfg(test)]
mod tests;

use super::{BLOCK, BlockFormat, LEVELS, PANEL};
use burn::tensor::{AllocationProperty, Bytes, DType, Shape, TensorData};
use half::f16;

/// Bytes of a vector of levels.
const VECTOR: usize = 64;

/// Added to a number it leaves the nearest whole number, ties to even, in the last bits; faster than to ask for it.
const ROUND: f32 = 12_582_912.0;

/// Numbers of a block for one output.
type Row = [f32; BLOCK];

/// A matrix in blocks: levels as words of four bytes, and scales.
#[derive(Debug)]
pub(crate) struct Packed {
    /// I32.
    pub(crate) levels: TensorData,
    /// F16.
    pub(crate) scales: TensorData,
}

/// Packs a matrix, over all threads of the current rayon pool where there is one. `Err` is the index of a number that is not finite.
///
/// # Shapes
/// - `data`: `[outputs, inputs]`; bf16, f16 or f32
pub(crate) fn pack(data: &TensorData, format: BlockFormat) -> Result<Packed, usize> {
    let size @ [outputs, inputs] = [data.shape()[0], data.shape()[1]];
    assert!(BlockFormat::fits(size), "a matrix of {outputs} x {inputs} has whole blocks");
    let blocks = inputs / BLOCK;
    let panel_bytes = blocks * format.vectors() * VECTOR;
    let mut levels = Lines::new(outputs / PANEL * panel_bytes);
    let mut scales = Lines::new(outputs * blocks * size_of::<f16>());
    let scale_bytes = blocks * PANEL * size_of::<f16>();
    let panel = |(panel, (levels, scales))| PackPanel { data, panel, format, levels, scales };
    let (levels_of, scales_of) = (levels.get(), scales.get());
    #[cfg(feature = "flex")]
    {
        use rayon::prelude::*;
        let panels = levels_of.par_chunks_mut(panel_bytes).zip(scales_of.par_chunks_mut(scale_bytes));
        panels.enumerate().try_for_each(|parts| crate::ops::flex::vectorized(panel(parts)))?;
    }
    #[cfg(not(feature = "flex"))]
    {
        let panels = levels_of.chunks_mut(panel_bytes).zip(scales_of.chunks_mut(scale_bytes));
        panels.enumerate().try_for_each(|parts| panel(parts).run())?;
    }
    Ok(Packed {
        levels: levels.into_data(format.levels_shape(size), DType::I32),
        scales: scales.into_data(BlockFormat::scales_shape(size), DType::F16),
    })
}

/// Bytes that begin at a cache line: vectors never straddle two.
struct Lines {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Lines {
    fn new(len: usize) -> Self {
        let bytes = vec![0; len + VECTOR - 1];
        let start = bytes.as_ptr().align_offset(VECTOR).min(VECTOR - 1);
        Self { bytes, start, len }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }

    fn into_data<const D: usize>(self, shape: [usize; D], dtype: DType) -> TensorData {
        let bytes = bytes::Bytes::from(self.bytes).slice(self.start..self.start + self.len);
        TensorData::from_bytes(Bytes::from_shared(bytes, AllocationProperty::Other), Shape::from(shape), dtype)
    }
}

struct PackPanel<'a> {
    data: &'a TensorData,
    panel: usize,
    format: BlockFormat,
    levels: &'a mut [u8],
    scales: &'a mut [u8],
}

#[cfg(feature = "flex")]
impl crate::ops::flex::Loops for PackPanel<'_> {
    type Output = Result<(), usize>;

    #[inline(always)]
    fn run(self) -> Result<(), usize> {
        self.run()
    }
}

impl PackPanel<'_> {
    /// Inlined whole, like all that follows, into what compiles it for an instruction set; closures of arrays would not be.
    #[inline(always)]
    fn run(self) -> Result<(), usize> {
        let Self { data, panel, format, levels, scales } = self;
        let inputs = data.shape()[1];
        let levels = levels.chunks_exact_mut(format.vectors() * VECTOR);
        let scales = scales.as_chunks_mut::<2>().0.chunks_exact_mut(PANEL);
        for (block, (levels, scales)) in levels.zip(scales).enumerate() {
            for (output, scale) in scales.iter_mut().enumerate() {
                let first = (panel * PANEL + output) * inputs + block * BLOCK;
                let row = read(data, first);
                if !row.iter().fold(true, |finite, number| finite & number.is_finite()) {
                    let at = row.iter().position(|number| !number.is_finite());
                    return Err(first + at.unwrap_or_default());
                }
                *scale = match format {
                    BlockFormat::Q8 => pack_q8(&row, output, levels),
                    BlockFormat::Q4 => pack_q4(&row, output, levels),
                }
                .to_le_bytes();
            }
        }
        Ok(())
    }
}

#[inline(always)]
fn read(data: &TensorData, first: usize) -> Row {
    let bytes = |size: usize| &data.bytes()[first * size..(first + BLOCK) * size];
    let mut row = [0.0; BLOCK];
    match data.dtype() {
        DType::BF16 => {
            let numbers = bytes(2).as_chunks().0;
            row.iter_mut()
                .zip(numbers)
                .for_each(|(to, from)| *to = f32::from_bits(u32::from(u16::from_ne_bytes(*from)) << 16));
        }
        DType::F16 => {
            let numbers = bytes(2).as_chunks().0;
            row.iter_mut().zip(numbers).for_each(|(to, from)| *to = f16::from_ne_bytes(*from).to_f32());
        }
        DType::F32 => {
            let numbers = bytes(4).as_chunks().0;
            row.iter_mut().zip(numbers).for_each(|(to, from)| *to = f32::from_ne_bytes(*from));
        }
        other => unreachable!("weights are bf16, f16 or f32, not {other:?}"),
    }
    row
}

/// The scale is the largest size over 127.
#[inline(always)]
fn pack_q8(row: &Row, output: usize, levels: &mut [u8]) -> f16 {
    const LARGEST: f32 = 127.0;
    let largest = row.iter().fold(0f32, |largest, number| largest.max(number.abs()));
    let mut scale = to_scale(largest / LARGEST);
    // Among the smallest numbers of f16 rounding down is by more than what the levels forgive.
    if scale.to_f32() * (LARGEST + 0.5) < largest && scale < f16::MAX {
        scale = f16::from_bits(scale.to_bits() + 1);
    }
    let inverse = inverse(scale);
    let mut bytes = [0; BLOCK];
    for (byte, number) in bytes.iter_mut().zip(row) {
        let level = (number * inverse).clamp(-LARGEST, LARGEST) + ROUND;
        *byte = level.to_bits().wrapping_sub(ROUND.to_bits()) as u8;
    }
    for (levels, four) in levels.chunks_exact_mut(VECTOR).zip(bytes.as_chunks::<4>().0) {
        levels[4 * output..4 * output + 4].copy_from_slice(four);
    }
    scale
}

/// The best of six scales, which put the number of largest size at or near either end of the levels, each fitted to its levels.
#[inline(always)]
fn pack_q4(row: &Row, output: usize, levels: &mut [u8]) -> f16 {
    /// Where the number of largest size may go: an end of [`LEVELS`], somewhat inside it or beyond it.
    const ENDS: [f32; 6] = [-127.0, -117.0, -140.0, 106.0, 117.0, 97.0];
    let largest = row.iter().fold(0f32, |largest, &number| if number.abs() > largest.abs() { number } else { largest });
    if largest == 0.0 {
        return f16::ZERO;
    }
    let mut best = Fit { scale: 0.0, gain: f32::NEG_INFINITY };
    for end in ENDS {
        let fit = Fit::new(row, end / largest);
        best = if fit.gain > best.gain { fit } else { best };
    }
    let scale = to_scale(Fit::new(row, best.scale.recip()).scale);
    let (_, indices) = nearest(row, inverse(scale));
    let (low, high) = indices.split_at(BLOCK / 2);
    let mut bytes = [0; BLOCK / 2];
    for (byte, (low, high)) in bytes.iter_mut().zip(low.iter().zip(high)) {
        *byte = (low | high << 4) as u8;
    }
    for (levels, four) in levels.chunks_exact_mut(VECTOR).zip(bytes.as_chunks::<4>().0) {
        levels[4 * output..4 * output + 4].copy_from_slice(four);
    }
    scale
}

/// The scale of least squared error for the levels that another scale gives.
struct Fit {
    scale: f32,
    /// By how much the levels lower the squared error, compared with zeros.
    gain: f32,
}

impl Fit {
    #[inline(always)]
    fn new(row: &Row, inverse: f32) -> Self {
        let (levels, _) = nearest(row, inverse);
        let product = sum(|i| row[i] * levels[i]);
        let square = sum(|i| levels[i] * levels[i]);
        let scale = product / square;
        // A scale that is no number fits nothing.
        Self { scale, gain: if scale.is_finite() { scale * product } else { f32::NEG_INFINITY } }
    }
}

/// The nearest levels of the scaled numbers, and their indices; without branches, so that loops become vector code.
#[inline(always)]
fn nearest(row: &Row, inverse: f32) -> ([f32; BLOCK], [u32; BLOCK]) {
    let (mut levels, mut indices) = ([f32::from(LEVELS[0]); BLOCK], [0; BLOCK]);
    for (middle, step) in STEPS {
        for i in 0..BLOCK {
            let above = row[i] * inverse > middle;
            levels[i] += if above { step } else { 0.0 };
            indices[i] += u32::from(above);
        }
    }
    (levels, indices)
}

/// For each level but the first: the middle between it and the one below, and how far they are apart.
const STEPS: [(f32, f32); LEVELS.len() - 1] = {
    let mut steps = [(0.0, 0.0); LEVELS.len() - 1];
    let mut i = 0;
    while i < steps.len() {
        let (low, high) = (LEVELS[i] as f32, LEVELS[i + 1] as f32);
        steps[i] = ((low + high) / 2.0, high - low);
        i += 1;
    }
    steps
};

/// A sum over a block, by halves: the order that vectors have.
#[inline(always)]
fn sum(term: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0; BLOCK];
    for (i, sum) in sums.iter_mut().enumerate() {
        *sum = term(i);
    }
    for half in [16, 8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

#[inline(always)]
fn to_scale(scale: f32) -> f16 {
    let limit = f16::MAX.to_f32();
    f16::from_f32(scale.clamp(-limit, limit))
}

/// A block whose scale is zero has no level but the nearest to zero.
#[inline(always)]
fn inverse(scale: f16) -> f32 {
    let inverse = scale.to_f32().recip();
    if inverse.is_finite() { inverse } else { 0.0 }
}
