//! The kernels' operations in AVX2, FMA and F16C.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, is_available, run};

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::absent::{is_available, run};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::ops::flex::isa::{Simd, Stride, Work};
    use std::arch::x86_64::*;

    /// Vectors of eight.
    #[derive(Clone, Copy)]
    pub(in crate::ops::flex) struct Avx2;

    pub(in crate::ops::flex) fn is_available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    }

    /// # Safety
    /// [`is_available`], and what the work asks.
    #[target_feature(enable = "avx2,fma,f16c")]
    pub(in crate::ops::flex) unsafe fn run<W: Work>(work: W) -> W::Output {
        // SAFETY: passed on to the caller.
        unsafe { work.run::<Avx2>() }
    }

    // SAFETY of every block: the trait's contract, which is the contract of the instruction used.
    impl Simd for Avx2 {
        type Vector = __m256;
        const LANES: usize = 8;
        const TILE_ROWS: usize = 5;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            unsafe { _mm256_setzero_ps() }
        }

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

        #[inline(always)]
        unsafe fn widen_pairs(from: *const u32) -> (__m256, __m256) {
            unsafe {
                let pairs = _mm256_loadu_si256(from.cast());
                let odd = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000_u32 as i32));
                (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs)), _mm256_castsi256_ps(odd))
            }
        }

        #[inline(always)]
        unsafe fn widen_f16(from: *const u16) -> __m256 {
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn transpose(from: *const u32, from_stride: Stride, to: *mut u32, to_stride: usize) {
            unsafe {
                let row = |i: usize| _mm256_loadu_ps(from.byte_add(i * from_stride.0).cast());
                // Words of two rows, then pairs of two of these, then halves.
                let mut quads = [_mm256_setzero_ps(); 8];
                for group in [0, 4] {
                    let [a, b, c, d] = [row(group), row(group + 1), row(group + 2), row(group + 3)];
                    let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                    quads[group] = _mm256_shuffle_ps::<0x44>(ab, cd);
                    quads[group + 1] = _mm256_shuffle_ps::<0xee>(ab, cd);
                    let (ab, cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                    quads[group + 2] = _mm256_shuffle_ps::<0x44>(ab, cd);
                    quads[group + 3] = _mm256_shuffle_ps::<0xee>(ab, cd);
                }
                for i in 0..4 {
                    let low = _mm256_permute2f128_ps::<0x20>(quads[i], quads[i + 4]);
                    let high = _mm256_permute2f128_ps::<0x31>(quads[i], quads[i + 4]);
                    _mm256_storeu_ps(to.add(i * to_stride).cast(), low);
                    _mm256_storeu_ps(to.add((i + 4) * to_stride).cast(), high);
                }
            }
        }

        #[inline(always)]
        fn prefetch(from: *const u8) {
            // SAFETY: a prefetch of any address is allowed.
            unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
        }
    }
}
