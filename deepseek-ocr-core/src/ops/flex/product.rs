//! How activations meet weights: exactly in f32, or as pairs of bf16 where the CPU multiplies those.

use super::{isa::Simd, stored::Stored};
use half::bf16;
use std::marker::PhantomData;

/// Two vectors: sums of one row of a tile, or one step of weights.
pub(super) type Pair<S> = [<S as Simd>::Vector; 2];

/// A way to multiply f32 activations with stored weights.
pub(super) trait Product: Send + Sync + 'static {
    type Weight: Stored;
    /// Words of activations for each row and step of two numbers.
    const STEP_WORDS: usize;

    /// The word that stands for the activations `numbers` (one or two, by [`STEP_WORDS`](Product::STEP_WORDS)).
    fn word(numbers: &[f32]) -> u32;

    /// Writes `LANES` words of activations that lie side by side.
    ///
    /// # Safety
    /// The instruction set, the numbers, and room for the words.
    unsafe fn words<S: Simd>(from: *const f32, to: *mut u32);

    /// Where [`dot`](Product::dot) wants the activation word at a place of the `LANES * STEP_WORDS` that it reads.
    fn place(at: usize, lanes: usize) -> usize;

    /// Reads `2 * LANES` weights of one row.
    ///
    /// # Safety
    /// The instruction set and memory of this size.
    unsafe fn weights<S: Simd>(from: *const Self::Weight) -> Pair<S>;

    /// Adds `2 * LANES` products of one row of activations to its sum.
    ///
    /// # Safety
    /// The instruction set, and `LANES * STEP_WORDS` words of activations.
    unsafe fn dot<S: Simd>(x: *const u32, w: &Pair<S>, acc: S::Vector) -> S::Vector;

    /// Adds one step of a tile: two numbers of each of `ROWS` rows with `2 * LANES` columns of a panel.
    ///
    /// # Safety
    /// The instruction set, and one step of activations and of weights.
    unsafe fn step<S: Simd, const ROWS: usize>(x: *const u32, w: *const u32, acc: &mut [Pair<S>; ROWS]);
}

/// Products of f32: weights are widened, nothing is rounded but the sums.
pub(super) struct Exact<T>(PhantomData<T>);

/// Products of bf16 pairs, summed in f32: activations are rounded to bf16.
pub(super) struct Pairs;

impl<T: Stored> Product for Exact<T> {
    type Weight = T;
    const STEP_WORDS: usize = 2;

    fn word(numbers: &[f32]) -> u32 {
        numbers.first().map_or(0, |number| number.to_bits())
    }

    #[inline(always)]
    unsafe fn words<S: Simd>(from: *const f32, to: *mut u32) {
        // SAFETY: passed on to the caller.
        unsafe { S::store(to.cast(), S::load(from)) }
    }

    fn place(at: usize, lanes: usize) -> usize {
        T::place(at, lanes)
    }

    #[inline(always)]
    unsafe fn weights<S: Simd>(from: *const T) -> Pair<S> {
        // SAFETY: passed on to the caller.
        let (first, second) = unsafe { T::widen::<S>(from) };
        [first, second]
    }

    #[inline(always)]
    unsafe fn dot<S: Simd>(x: *const u32, w: &Pair<S>, acc: S::Vector) -> S::Vector {
        let x = x.cast::<f32>();
        // SAFETY: passed on to the caller.
        unsafe { S::mul_add(S::load(x.add(S::LANES)), w[1], S::mul_add(S::load(x), w[0], acc)) }
    }

    #[inline(always)]
    unsafe fn step<S: Simd, const ROWS: usize>(x: *const u32, w: *const u32, acc: &mut [Pair<S>; ROWS]) {
        // SAFETY: passed on to the caller.
        unsafe {
            for number in 0..2 {
                let columns = [T::unpack::<S>(w, number), T::unpack::<S>(w.add(S::LANES), number)];
                for (row, acc) in acc.iter_mut().enumerate() {
                    let x = S::splat(*x.cast::<f32>().add(number * ROWS + row));
                    *acc = [S::mul_add(x, columns[0], acc[0]), S::mul_add(x, columns[1], acc[1])];
                }
            }
        }
    }
}

impl Product for Pairs {
    type Weight = bf16;
    const STEP_WORDS: usize = 1;

    fn word(numbers: &[f32]) -> u32 {
        let round = |at: usize| numbers.get(at).map_or(0, |&number| u32::from(round_to_bf16(number)));
        round(0) | round(1) << 16
    }

    /// Numbers below 2^-126 become zero, as they are to the product of pairs.
    #[inline(always)]
    unsafe fn words<S: Simd>(from: *const f32, to: *mut u32) {
        // SAFETY: passed on to the caller.
        unsafe { S::store_pairs(to, S::load(from), S::load(from.add(S::LANES))) }
    }

    fn place(at: usize, _: usize) -> usize {
        at
    }

    #[inline(always)]
    unsafe fn weights<S: Simd>(from: *const bf16) -> Pair<S> {
        // SAFETY: passed on to the caller.
        unsafe { [S::load(from.cast()), S::zero()] }
    }

    #[inline(always)]
    unsafe fn dot<S: Simd>(x: *const u32, w: &Pair<S>, acc: S::Vector) -> S::Vector {
        // SAFETY: passed on to the caller.
        unsafe { S::dot_pairs(acc, S::load(x.cast()), w[0]) }
    }

    #[inline(always)]
    unsafe fn step<S: Simd, const ROWS: usize>(x: *const u32, w: *const u32, acc: &mut [Pair<S>; ROWS]) {
        // SAFETY: passed on to the caller.
        unsafe {
            let columns = [S::load(w.cast()), S::load(w.add(S::LANES).cast())];
            for (row, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*x.cast::<f32>().add(row));
                *acc = [S::dot_pairs(acc[0], x, columns[0]), S::dot_pairs(acc[1], x, columns[1])];
            }
        }
    }
}

/// To nearest, ties to even; without the branches of `bf16::from_f32`, so that loops of it become vector code.
#[inline(always)]
fn round_to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16;
    // Rounding could carry the payload of a NaN into an infinity.
    if number.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::round_to_bf16;
    use half::bf16;

    #[test]
    fn rounding_is_that_of_half() {
        for step in 0..=u16::MAX {
            for low in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let number = f32::from_bits(u32::from(step) << 16 | low);
                assert_eq!(round_to_bf16(number), bf16::from_f32(number).to_bits(), "{number}");
            }
        }
    }
}
