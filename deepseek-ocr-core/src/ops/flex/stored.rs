//! The types of stored weights: how each is widened in a register and laid into panels.

use super::isa::{MAX_LANES, Simd, Stride};
use half::{bf16, f16};

/// A stored number that is widened to f32 without loss.
///
/// Panels are rows of words, a word for each column: two bf16 or one f32 (f16 is widened when it is packed).
pub(super) trait Stored: Copy + Send + Sync + 'static {
    const ZERO: Self;
    /// Numbers in a word of a panel.
    const PER_WORD: usize;
    /// Words of a panel for each column and step of two numbers.
    const STEP_WORDS: usize = 2 / Self::PER_WORD;

    /// Where [`widen`](Stored::widen) leaves the number at a place of the `2 * lanes` that it reads.
    fn place(at: usize, lanes: usize) -> usize;

    /// The word of a panel for up to `PER_WORD` numbers; what is missing is zero.
    fn word(numbers: &[Self]) -> u32;

    /// Reads `2 * LANES` numbers of one row.
    ///
    /// # Safety
    /// The instruction set, and as many numbers at `from`.
    unsafe fn widen<S: Simd>(from: *const Self) -> (S::Vector, S::Vector);

    /// Reads the first or the second number (0 or 1) of one step of `LANES` columns in a panel of `2 * LANES`.
    ///
    /// # Safety
    /// The instruction set, and `STEP_WORDS` rows of words.
    unsafe fn unpack<S: Simd>(from: *const u32, number: usize) -> S::Vector;

    /// Lays `LANES * PER_WORD` numbers of `LANES` rows, `stride` numbers apart, into `LANES` rows of words.
    ///
    /// # Safety
    /// The instruction set, and memory of this size at both ends.
    unsafe fn pack<S: Simd>(from: *const Self, stride: usize, to: *mut u32, width: usize);
}

impl Stored for bf16 {
    const ZERO: Self = bf16::ZERO;
    const PER_WORD: usize = 2;

    /// Even places first: a pair is split by one shift and one mask.
    fn place(at: usize, lanes: usize) -> usize {
        at / 2 + at % 2 * lanes
    }

    fn word(numbers: &[Self]) -> u32 {
        let bits = |at: usize| numbers.get(at).map_or([0; 2], |number| number.to_ne_bytes());
        let ([a, b], [c, d]) = (bits(0), bits(1));
        u32::from_ne_bytes([a, b, c, d])
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(from: *const Self) -> (S::Vector, S::Vector) {
        // SAFETY: passed on to the caller.
        unsafe { S::widen_pairs(from.cast()) }
    }

    #[inline(always)]
    unsafe fn unpack<S: Simd>(from: *const u32, number: usize) -> S::Vector {
        // SAFETY: passed on to the caller.
        let (first, second) = unsafe { S::widen_pairs(from) };
        if number == 0 { first } else { second }
    }

    #[inline(always)]
    unsafe fn pack<S: Simd>(from: *const Self, stride: usize, to: *mut u32, width: usize) {
        // SAFETY: passed on to the caller.
        unsafe { S::transpose(from.cast(), Stride(stride * size_of::<Self>()), to, width) }
    }
}

impl Stored for f16 {
    const ZERO: Self = f16::ZERO;
    const PER_WORD: usize = 1;

    fn place(at: usize, _: usize) -> usize {
        at
    }

    fn word(numbers: &[Self]) -> u32 {
        numbers.first().map_or(0, |number| number.to_f32_const().to_bits())
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(from: *const Self) -> (S::Vector, S::Vector) {
        // SAFETY: passed on to the caller.
        unsafe { (S::widen_f16(from.cast()), S::widen_f16(from.add(S::LANES).cast())) }
    }

    #[inline(always)]
    unsafe fn unpack<S: Simd>(from: *const u32, number: usize) -> S::Vector {
        // SAFETY: passed on to the caller.
        unsafe { S::load(from.add(number * 2 * S::LANES).cast()) }
    }

    #[inline(always)]
    unsafe fn pack<S: Simd>(from: *const Self, stride: usize, to: *mut u32, width: usize) {
        let mut wide = [0u32; MAX_LANES * MAX_LANES];
        // SAFETY: the block on the stack holds LANES rows of LANES words, the rest is passed on to the caller.
        unsafe {
            for row in 0..S::LANES {
                let vector = S::widen_f16(from.add(row * stride).cast());
                S::store(wide.as_mut_ptr().add(row * S::LANES).cast(), vector);
            }
            S::transpose(wide.as_ptr(), Stride(S::LANES * size_of::<u32>()), to, width);
        }
    }
}

impl Stored for f32 {
    const ZERO: Self = 0.0;
    const PER_WORD: usize = 1;

    fn place(at: usize, _: usize) -> usize {
        at
    }

    fn word(numbers: &[Self]) -> u32 {
        numbers.first().map_or(0, |number| number.to_bits())
    }

    #[inline(always)]
    unsafe fn widen<S: Simd>(from: *const Self) -> (S::Vector, S::Vector) {
        // SAFETY: passed on to the caller.
        unsafe { (S::load(from), S::load(from.add(S::LANES))) }
    }

    #[inline(always)]
    unsafe fn unpack<S: Simd>(from: *const u32, number: usize) -> S::Vector {
        // SAFETY: passed on to the caller.
        unsafe { S::load(from.add(number * 2 * S::LANES).cast()) }
    }

    #[inline(always)]
    unsafe fn pack<S: Simd>(from: *const Self, stride: usize, to: *mut u32, width: usize) {
        // SAFETY: passed on to the caller.
        unsafe { S::transpose(from.cast(), Stride(stride * size_of::<Self>()), to, width) }
    }
}

/// The numbers left over at the end of a row, filled up with zeros to a whole step.
pub(super) fn padded<T: Stored>(rest: &[T]) -> [T; 2 * MAX_LANES] {
    let mut step = [T::ZERO; 2 * MAX_LANES];
    step[..rest.len()].copy_from_slice(rest);
    step
}
