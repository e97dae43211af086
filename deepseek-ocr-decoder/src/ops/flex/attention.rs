//! Attention over slices: one position for each row of a batch, or many positions of one sequence.

mod causal;
mod decode;

pub(super) use causal::Causal;
pub(super) use decode::Decode;

use super::vector::{self, LANES, Multiply};

/// Turns scores into `e^(score - highest)` and gives their sum.
#[inline(always)]
fn exponentials<M: Multiply>(scores: &mut [f32], highest: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let mut blocks = scores.chunks_exact_mut(LANES);
    for block in &mut blocks {
        for (sum, score) in sums.iter_mut().zip(block) {
            *score = vector::exp::<M>(*score - highest);
            *sum += *score;
        }
    }
    let mut sum = 0.0;
    for score in blocks.into_remainder() {
        *score = vector::exp::<M>(*score - highest);
        sum += *score;
    }
    sums.iter().fold(sum, |sum, lane| sum + lane)
}

/// The highest of the numbers, or negative infinity. Numbers that are none are passed over: they come out of the exponentials.
#[inline(always)]
fn highest(numbers: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let blocks = numbers.chunks_exact(LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, &number) in lanes.iter_mut().zip(block) {
            *lane = if number > *lane { number } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |highest, &number| if number > highest { number } else { highest })
}

fn scale(width: usize) -> f32 {
    (width as f32).sqrt().recip()
}
