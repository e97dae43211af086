//! Which vector instructions a kernel runs on: chosen at run time, written once over [`Simd`].

use super::{avx2, avx512, portable};

/// An instruction set for which the kernels are compiled.
///
/// On aarch64 the portable path is the only one: NEON and its fused multiply-add belong to the base instruction set there,
/// so that the compiler turns its fixed-size loops into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Isa {
    /// AVX-512 with `vdpbf16ps` (Zen 4 and later, Cooper Lake, Sapphire Rapids and later).
    Avx512Bf16,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// AVX2, FMA and F16C.
    Avx2,
    /// What every target of the compiler has.
    Portable,
}

/// What tests have chosen.
#[cfg(feature = "force-isa")]
static FORCED: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();

impl Isa {
    /// All of them, best first.
    pub const ALL: [Self; 4] = [Self::Avx512Bf16, Self::Avx512, Self::Avx2, Self::Portable];

    /// The best one that this CPU runs.
    pub fn best() -> Self {
        #[cfg(feature = "force-isa")]
        if let Some(&isa) = FORCED.get() {
            return isa;
        }
        Self::ALL.into_iter().find(|isa| isa.is_available()).unwrap_or(Self::Portable)
    }

    /// For tests: makes this the best one, for the rest of the process.
    ///
    /// # Panics
    /// If the CPU lacks it, or another one was forced before.
    #[cfg(feature = "force-isa")]
    pub fn force(self) {
        assert!(self.is_available(), "this CPU has no {self:?}");
        assert_eq!(*FORCED.get_or_init(|| self), self, "another instruction set was forced before");
    }

    /// Whether this CPU runs it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Avx512Bf16 => avx512::is_available() && avx512::has_bf16(),
            Self::Avx512 => avx512::is_available(),
            Self::Avx2 => avx2::is_available(),
            Self::Portable => true,
        }
    }

    /// Runs `work` compiled for this instruction set.
    ///
    /// # Safety
    /// [`is_available`](Self::is_available), and what [`Work::run`] asks.
    pub unsafe fn run<W: Work>(self, work: W) -> W::Output {
        // SAFETY: the caller vouches for the instruction set and for the work.
        unsafe {
            match self {
                Self::Avx512Bf16 => avx512::run_with_bf16(work),
                Self::Avx512 => avx512::run(work),
                Self::Avx2 => avx2::run(work),
                Self::Portable => work.run::<portable::Portable>(),
            }
        }
    }
}

/// A piece of work on one thread, compiled once for each instruction set.
pub trait Work {
    /// What it gives.
    type Output;

    /// Implementations are `#[inline(always)]`, so that the code takes on the instruction set of its caller.
    ///
    /// # Safety
    /// The CPU has the instructions of `S`; each work adds what it asks of its fields.
    unsafe fn run<S: Simd>(self) -> Self::Output;
}

/// Vectors of f32 and the few operations that the kernels are made of.
///
/// # Safety
/// Every function needs the instruction set; those that take a pointer read or write as many elements as they say.
#[allow(clippy::missing_safety_doc, reason = "one contract for all, above")]
pub trait Simd: Copy {
    /// `LANES` numbers.
    type Vector: Copy;
    /// Numbers in a vector; at most [`MAX_LANES`].
    const LANES: usize;
    /// Whether a fused multiply-add is one instruction.
    const FUSED: bool = true;
    /// Rows of a product's tile: twice as many vectors, and those of the weights, fit into the registers.
    const TILE_ROWS: usize;

    /// Zeros.
    unsafe fn zero() -> Self::Vector;
    /// One number in all lanes.
    unsafe fn splat(value: f32) -> Self::Vector;
    /// Reads `LANES` numbers.
    unsafe fn load(from: *const f32) -> Self::Vector;
    /// Writes `LANES` numbers.
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    /// `a + b`.
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`.
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b`.
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b + c`; one rounding, or two on the portable path.
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// The larger one; `b` if either is not a number.
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// To the nearest whole number.
    unsafe fn round(vector: Self::Vector) -> Self::Vector;
    /// `vector * 2^exponent` for a whole `exponent`; zero where that is below 2^-126, for a `vector` near 1.
    unsafe fn scale(vector: Self::Vector, exponent: Self::Vector) -> Self::Vector;
    /// The largest lane.
    unsafe fn largest(vector: Self::Vector) -> f32;
    /// The sum of all lanes.
    unsafe fn sum(vector: Self::Vector) -> f32;
    /// Widens `LANES` pairs of bf16, given as their bits: those at even places, those at odd places.
    unsafe fn widen_pairs(from: *const u32) -> (Self::Vector, Self::Vector);
    /// Widens `LANES` numbers in f16, given as their bits.
    unsafe fn widen_f16(from: *const u16) -> Self::Vector;
    /// Adds to each lane the products of a pair of bf16; only for [`Isa::Avx512Bf16`].
    unsafe fn dot_pairs(acc: Self::Vector, x: Self::Vector, w: Self::Vector) -> Self::Vector {
        let _ = (acc, x, w);
        unreachable!("asked for a product of pairs where the CPU has none")
    }
    /// Writes `first`, then `second`, in bf16; only for [`Isa::Avx512Bf16`].
    unsafe fn store_pairs(to: *mut u32, first: Self::Vector, second: Self::Vector) {
        let _ = (to, first, second);
        unreachable!("asked for pairs where the CPU has none")
    }
    /// Writes the transpose of a block of `LANES` x `LANES` words; strides are in words.
    unsafe fn transpose(from: *const u32, from_stride: Stride, to: *mut u32, to_stride: usize);
    /// Asks for the cache line at `from`, which need not be valid memory, into the second cache.
    fn prefetch(from: *const u8) {
        let _ = from;
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

/// A distance between rows in bytes: rows of bf16 of odd length do not start at whole words.
#[derive(Clone, Copy, Debug)]
pub struct Stride(pub usize);

/// The widest vector of all instruction sets, for buffers on the stack.
pub const MAX_LANES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_available_and_the_portable_always() {
        assert!(Isa::best().is_available());
        assert!(Isa::Portable.is_available());
    }

    /// Checks one block's transpose with rows 3 bytes more than a block apart.
    struct Transpose;

    impl Work for Transpose {
        type Output = ();

        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let stride = S::LANES * 4 + 3;
            let bytes: Vec<u8> = (0..stride * S::LANES).map(|i| (i * 7 % 251) as u8).collect();
            let mut block = vec![0u32; S::LANES * S::LANES];
            // SAFETY: both buffers hold a whole block.
            unsafe { S::transpose(bytes.as_ptr().cast(), Stride(stride), block.as_mut_ptr(), S::LANES) };
            for (i, &word) in block.iter().enumerate() {
                let at = i % S::LANES * stride + i / S::LANES * 4;
                assert_eq!(word.to_ne_bytes(), bytes[at..at + 4]);
            }
        }
    }

    #[test]
    fn every_transpose_is_one() {
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            // SAFETY: the instruction set is available, the work asks nothing else.
            unsafe { isa.run(Transpose) };
        }
    }
}
