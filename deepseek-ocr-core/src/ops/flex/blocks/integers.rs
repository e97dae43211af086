//! The operations on whole numbers that products in blocks are made of, beside those of [`Simd`].

use super::activations::BLOCK_WORDS;
use crate::{
    ops::flex::{Isa, isa::Simd, portable::Portable},
    quant::LEVELS,
};

/// A piece of work that is compiled once for each way to multiply whole numbers.
pub(super) trait IntegerWork {
    /// Implementations are `#[inline(always)]`, so that the code takes on the instruction set of its caller.
    ///
    /// # Safety
    /// The CPU has the instructions of `S`; each work adds what it asks of its fields.
    unsafe fn run<S: Integers>(self);
}

/// Runs `work` compiled for an instruction set.
///
/// # Safety
/// The instruction set is available, and what [`IntegerWork::run`] asks.
pub(super) unsafe fn run<W: IntegerWork>(isa: Isa, work: W) {
    // SAFETY: the caller vouches for the instruction set and for the work; whoever has AVX-512 has AVX2.
    unsafe {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 | Isa::Avx512 if super::x86::has_vnni() => super::x86::run_vnni(work),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 | Isa::Avx512 | Isa::Avx2 => super::x86::run_avx2(work),
            _ => work.run::<Portable>(),
        }
    }
}

/// Vectors of levels and of sums.
///
/// # Safety
/// Every function needs the instruction set; those that take a pointer read as many elements as they say.
pub(super) trait Integers: Simd {
    /// `LANES` outputs with four levels each.
    type Levels: Copy;
    /// `LANES` sums.
    type Sums: Copy;
    /// Rows of a tile.
    const ROWS: usize;
    /// Vectors of outputs of a tile: one panel or two, and one panel for a single row.
    const VECTORS: usize;

    /// Reads `4 * LANES` levels.
    unsafe fn read_q8(from: *const i32) -> Self::Levels;
    /// Reads `4 * LANES` bytes: the levels of their low halves, those of their high halves.
    unsafe fn read_q4(from: *const i32) -> [Self::Levels; 2];
    /// Where the sums over a block of activations start.
    unsafe fn start(block: &[u32; BLOCK_WORDS]) -> Self::Sums;
    /// Adds the products of each output's four levels with four of activations.
    unsafe fn dot(sums: Self::Sums, weights: Self::Levels, x: u32) -> Self::Sums;
    unsafe fn to_float(sums: Self::Sums) -> Self::Vector;
}

const LANES: usize = Portable::LANES;

impl Integers for Portable {
    type Levels = [[i8; 4]; LANES];
    type Sums = [i32; LANES];
    const ROWS: usize = 1;
    const VECTORS: usize = 4;

    #[inline(always)]
    unsafe fn read_q8(from: *const i32) -> Self::Levels {
        // SAFETY: the caller's pointer holds LANES words.
        unsafe { from.cast::<Self::Levels>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn read_q4(from: *const i32) -> [Self::Levels; 2] {
        // SAFETY: the caller's pointer holds LANES words.
        let bytes = unsafe { from.cast::<[[u8; 4]; LANES]>().read_unaligned() };
        let half = |shift: u32| bytes.map(|bytes| bytes.map(|byte| LEVELS[usize::from(byte >> shift & 0xf)]));
        [half(0), half(4)]
    }

    #[inline(always)]
    unsafe fn start(_: &[u32; BLOCK_WORDS]) -> Self::Sums {
        [0; LANES]
    }

    #[inline(always)]
    unsafe fn dot(mut sums: Self::Sums, weights: Self::Levels, x: u32) -> Self::Sums {
        let x = x.to_ne_bytes().map(|level| i32::from(level.cast_signed()));
        for (sum, weights) in sums.iter_mut().zip(weights) {
            for (&weight, x) in weights.iter().zip(x) {
                *sum += i32::from(weight) * x;
            }
        }
        sums
    }

    #[inline(always)]
    unsafe fn to_float(sums: Self::Sums) -> Self::Vector {
        sums.map(|sum| sum as f32)
    }
}
