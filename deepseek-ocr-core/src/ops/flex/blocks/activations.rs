//! Activations in blocks of 32: levels of 8 bits and a scale in f32.

use super::integers::{IntegerWork, Integers};
use crate::quant::BLOCK;

/// Words of a block: its levels, four in a word; its scale; and where sums of a product with weights above zero start.
pub(super) const BLOCK_WORDS: usize = LEVEL_WORDS + 2;
/// Words of levels.
pub(super) const LEVEL_WORDS: usize = BLOCK / 4;
/// The word of the scale.
pub(super) const SCALE: usize = LEVEL_WORDS;
/// The word at which sums start.
pub(super) const START: usize = LEVEL_WORDS + 1;

/// What instruction sets that multiply unsigned levels of weights with signed ones add to the former.
pub(super) const OFFSET: i32 = 128;

const LARGEST: f32 = 127.0;
/// Blocks whose numbers are all smaller count as zeros: the inverse of their scale would not be finite.
const SMALLEST: f32 = 1e-30;
/// Added to a number it leaves the nearest whole number, ties to even, in the last bits; faster than to ask for it.
const ROUND: f32 = 12_582_912.0;

/// Rounds whole blocks, one after the other.
pub(super) struct Quantize<'a> {
    pub(super) x: &'a [f32],
    /// [`BLOCK_WORDS`] for each block.
    pub(super) levels: &'a mut [u32],
}

impl IntegerWork for Quantize<'_> {
    #[inline(always)]
    unsafe fn run<S: Integers>(self) {
        for (x, block) in self.x.as_chunks().0.iter().zip(self.levels.as_chunks_mut().0) {
            quantize(x, block);
        }
    }
}

/// A block with a number that is not finite gets a scale that is none either, so that every sum shows it.
#[inline(always)]
fn quantize(x: &[f32; BLOCK], block: &mut [u32; BLOCK_WORDS]) {
    // Without their sign, the bits of floats are in the order of the numbers, infinities and NaN last.
    let largest = x.iter().fold(0, |largest, number| number.abs().to_bits().max(largest));
    let largest = f32::from_bits(largest);
    let (scale, inverse) = match largest {
        _ if !largest.is_finite() => (f32::NAN, 0.0),
        _ if largest < SMALLEST => (0.0, 0.0),
        _ => (largest / LARGEST, LARGEST / largest),
    };
    let mut levels = [0i8; BLOCK];
    for (level, number) in levels.iter_mut().zip(x) {
        *level = (number * inverse + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i8;
    }
    let sum: i32 = levels.iter().map(|&level| i32::from(level)).sum();
    for (word, levels) in block.iter_mut().zip(levels.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(levels.map(|level| level.to_ne_bytes()[0]));
    }
    block[SCALE] = scale.to_bits();
    block[START] = (-OFFSET * sum).cast_unsigned();
}
