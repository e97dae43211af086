//! Which vector instructions the encoder's kernels run on: chosen at run time, written once over [`Simd`] and [`Product`].

use super::{avx2, avx512, portable};
use deepseek_ocr_core::ops::{Precision, flex::Isa};

/// A piece of work on one thread, compiled once for each instruction set and product.
pub(super) trait Work {
    type Output;

    /// `ROWS` is the height of a tile. Implementations are `#[inline(always)]`, so that the code takes on the instruction
    /// set of its caller.
    ///
    /// # Safety
    /// The CPU has the instructions of `S` and `P`; each work adds what it asks of its fields.
    unsafe fn run<S: Simd, P: Product, const ROWS: usize>(self) -> Self::Output;
}

/// Runs `work` on an instruction set at a precision.
///
/// # Safety
/// The instruction set is available; and what [`Work::run`] asks.
pub(super) unsafe fn run<W: Work>(isa: Isa, precision: Precision, work: W) -> W::Output {
    // SAFETY: passed on to the caller.
    unsafe {
        match (isa, precision) {
            (Isa::Avx512Bf16, Precision::Bf16) => avx512::run_with_bf16(work),
            (Isa::Avx512Bf16 | Isa::Avx512, _) => avx512::run(work),
            (Isa::Avx2, _) => avx2::run(work),
            _ => work.run::<portable::Portable, Floats, 6>(),
        }
    }
}

/// Vectors of f32.
///
/// # Safety
/// Every function needs the instruction set; those that take a pointer read or write as many numbers as they say.
pub(super) trait Simd: Copy {
    type Vector: Copy;
    /// Numbers in a vector; at most 16.
    const LANES: usize;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`; one rounding, or two on the portable path.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger one; `b` if either is not a number.
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn round(vector: Self::Vector) -> Self::Vector;
    /// `vector * 2^exponent` for a whole `exponent`; zero where that is below 2^-126, for a `vector` near 1.
    unsafe fn scale(vector: Self::Vector, exponent: Self::Vector) -> Self::Vector;
    unsafe fn largest(vector: Self::Vector) -> f32;
    unsafe fn sum(vector: Self::Vector) -> f32;
    /// Adds to each lane the products of a pair of bf16; only where a work was given [`Pairs`].
    unsafe fn dot_pairs(acc: Self::Vector, x: Self::Vector, w: Self::Vector) -> Self::Vector {
        let _ = (acc, x, w);
        unreachable!("asked for a product of pairs where the CPU has none")
    }
    /// Writes `first`, then `second`, in bf16; only where a work was given [`Pairs`].
    unsafe fn store_pairs(to: *mut u32, first: Self::Vector, second: Self::Vector) {
        let _ = (to, first, second);
        unreachable!("asked for pairs where the CPU has none")
    }

    /// `2^x` with a relative error below `1e-7`, which is that of the rounded sums around it.
    #[inline(always)]
    unsafe fn exp2(x: Self::Vector) -> Self::Vector {
        // SAFETY: passed on to the caller.
        unsafe {
            // Below, the result is zero anyway, and minus infinity would give infinity minus infinity.
            let x = Self::max(Self::splat(EXP2_ZERO), x);
            let whole = Self::round(x);
            let rest = Self::sub(x, whole);
            let [first, others @ ..] = EXP2;
            let power = others
                .into_iter()
                .fold(Self::splat(first), |sum, factor| Self::mul_add(sum, rest, Self::splat(factor)));
            Self::scale(power, whole)
        }
    }
}

/// Powers of two at which nothing is left of an f32.
const EXP2_ZERO: f32 = -200.0;

/// `2^x` over -1/2..1/2 by least squares of the relative error at Chebyshev's points: at most 7.7e-8 off. Highest first.
const EXP2: [f32; 6] = [0.001_326_697, 0.009_675_46, 0.055_507_426, 0.240_221_22, 0.693_146_95, 1.000_000_1];

/// How two matrices meet: as f32, or as pairs of bf16.
pub(super) trait Product {
    /// Numbers that one word of a packed matrix holds.
    const PER_WORD: usize;

    /// The word of these numbers (one or two); missing ones are zero.
    fn word(numbers: [f32; 2]) -> u32;

    /// # Safety
    /// The instruction set.
    unsafe fn step<S: Simd>(acc: S::Vector, x: S::Vector, w: S::Vector) -> S::Vector;

    /// Writes `2 * LANES` numbers as words.
    ///
    /// # Safety
    /// The instruction set, and room for the words.
    unsafe fn store<S: Simd>(to: *mut u32, first: S::Vector, second: S::Vector);
}

/// f32.
pub(super) struct Floats;

/// Pairs of bf16, summed in f32.
pub(super) struct Pairs;

impl Product for Floats {
    const PER_WORD: usize = 1;

    #[inline(always)]
    fn word([number, _]: [f32; 2]) -> u32 {
        number.to_bits()
    }

    #[inline(always)]
    unsafe fn step<S: Simd>(acc: S::Vector, x: S::Vector, w: S::Vector) -> S::Vector {
        // SAFETY: passed on to the caller.
        unsafe { S::mul_add(x, w, acc) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut u32, first: S::Vector, second: S::Vector) {
        // SAFETY: passed on to the caller.
        unsafe {
            S::store(to.cast(), first);
            S::store(to.add(S::LANES).cast(), second);
        }
    }
}

impl Product for Pairs {
    const PER_WORD: usize = 2;

    #[inline(always)]
    fn word([first, second]: [f32; 2]) -> u32 {
        round_to_bf16(first) >> 16 | round_to_bf16(second) & 0xffff_0000
    }

    #[inline(always)]
    unsafe fn step<S: Simd>(acc: S::Vector, x: S::Vector, w: S::Vector) -> S::Vector {
        // SAFETY: passed on to the caller.
        unsafe { S::dot_pairs(acc, x, w) }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(to: *mut u32, first: S::Vector, second: S::Vector) {
        // SAFETY: passed on to the caller.
        unsafe { S::store_pairs(to, first, second) }
    }
}

/// The number in bf16 in the upper half, to nearest, ties to even.
#[inline(always)]
fn round_to_bf16(number: f32) -> u32 {
    let bits = number.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    // Rounding could carry the payload of a NaN into an infinity.
    if number.is_nan() { bits | 0x40_0000 } else { rounded }
}

/// The widest vector of all instruction sets, for buffers on the stack.
pub(super) const MAX_LANES: usize = 16;
