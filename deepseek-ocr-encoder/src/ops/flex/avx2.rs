//! The kernels' operations in AVX2 and FMA.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::run;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::absent::run;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::ops::flex::simd::{Floats, Simd, Work};
    use std::arch::x86_64::*;

    /// Vectors of eight.
    #[derive(Clone, Copy)]
    struct Avx2;

    /// # Safety
    /// AVX2 and FMA, and what the work asks.
    #[target_feature(enable = "avx2,fma")]
    pub(in crate::ops::flex) unsafe fn run<W: Work>(work: W) -> W::Output {
        // SAFETY: passed on to the caller.
        unsafe { work.run::<Avx2, Floats, 6>() }
    }

    // SAFETY of every block: the trait's contract, which is the contract of the instruction used.
    impl Simd for Avx2 {
        type Vector = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(value: f32) -> __m256 {
            unsafe { _mm256_set1_ps(value) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(to: *mut f32, vector: __m256) {
            unsafe { _mm256_storeu_ps(to, vector) }
        }

        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }

        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }

        #[inline(always)]
        unsafe fn round(vector: __m256) -> __m256 {
            unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(vector) }
        }

        #[inline(always)]
        unsafe fn scale(vector: __m256, exponent: __m256) -> __m256 {
            unsafe {
                let exponent = _mm256_max_ps(_mm256_set1_ps(-127.0), _mm256_min_ps(_mm256_set1_ps(127.0), exponent));
                let biased = _mm256_add_epi32(_mm256_cvtps_epi32(exponent), _mm256_set1_epi32(127));
                _mm256_mul_ps(vector, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
            }
        }

        #[inline(always)]
        unsafe fn largest(vector: __m256) -> f32 {
            unsafe {
                let four = _mm_max_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            }
        }

        #[inline(always)]
        unsafe fn sum(vector: __m256) -> f32 {
            unsafe {
                let four = _mm_add_ps(_mm256_castps256_ps128(vector), _mm256_extractf128_ps::<1>(vector));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
    }
}
