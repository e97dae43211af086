//! How the encoder's kernels run on core's vector instructions: products of f32 or of pairs of bf16, tiles of a height that the
//! registers allow.

use deepseek_ocr_core::ops::{
    Precision,
    flex::{
        Isa,
        isa::{self, Simd},
    },
};
use std::marker::PhantomData;

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
            (Isa::Avx512Bf16, Precision::Bf16) => isa.run(With::<W, Pairs>(work, PhantomData)),
            _ => isa.run(With::<W, Floats>(work, PhantomData)),
        }
    }
}

/// Work with a product.
struct With<W, P>(W, PhantomData<P>);

impl<W: Work, P: Product> isa::Work for With<W, P> {
    type Output = W::Output;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> W::Output {
        // SAFETY: passed on to the caller.
        unsafe {
            // Twice as many sums as rows, and what meets them, fit into 32 registers or into 16.
            match S::LANES {
                16 => self.0.run::<S, P, 12>(),
                _ => self.0.run::<S, P, 6>(),
            }
        }
    }
}

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
