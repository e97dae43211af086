//! The kernels' operations in AVX-512, with or without its products of bf16.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{run, run_with_bf16};

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::absent::{run, run as run_with_bf16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::ops::flex::simd::{Floats, Pairs, Simd, Work};
    use std::arch::x86_64::*;

    /// Vectors of sixteen.
    #[derive(Clone, Copy)]
    struct Avx512;

    /// # Safety
    /// AVX-512 F, BW, DQ and VL, and what the work asks.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(in crate::ops::flex) unsafe fn run<W: Work>(work: W) -> W::Output {
        // SAFETY: passed on to the caller.
        unsafe { work.run::<Avx512, Floats, 12>() }
    }

    /// # Safety
    /// Besides, AVX-512 BF16.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(in crate::ops::flex) unsafe fn run_with_bf16<W: Work>(work: W) -> W::Output {
        // SAFETY: passed on to the caller.
        unsafe { work.run::<Avx512, Pairs, 12>() }
    }

    // SAFETY of every block: the trait's contract, which is the contract of the instruction used.
    impl Simd for Avx512 {
        type Vector = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m512 {
            unsafe { _mm512_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m512) {
            unsafe { _mm512_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn round(vector: __m512) -> __m512 {
            unsafe { _mm512_roundscale_ps::<_MM_FROUND_TO_NEAREST_INT>(vector) }
        }

        #[inline(always)]
        unsafe fn scale(vector: __m512, exponent: __m512) -> __m512 {
            unsafe { _mm512_scalef_ps(vector, exponent) }
        }

        #[inline(always)]
        unsafe fn largest(vector: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(vector) }
        }

        #[inline(always)]
        unsafe fn sum(vector: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(vector) }
        }

        #[inline(always)]
        unsafe fn dot_pairs(acc: __m512, x: __m512, w: __m512) -> __m512 {
            // SAFETY: besides, the types differ in name only.
            unsafe {
                let pairs = |vector: __m512| std::mem::transmute::<__m512, __m512bh>(vector);
                _mm512_dpbf16_ps(acc, pairs(x), pairs(w))
            }
        }

        #[inline(always)]
        unsafe fn store_pairs(to: *mut u32, first: __m512, second: __m512) {
            // SAFETY: besides, the types differ in name only.
            unsafe {
                let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                _mm512_storeu_si512(to.cast(), pairs);
            }
        }
    }
}
