//! The kernels' operations in AVX-512, with or without its products of bf16.

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx512, has_bf16, is_available, run, run_with_bf16};

#[cfg(not(target_arch = "x86_64"))]
pub(super) use super::absent::{has_bf16, is_available, run, run_with_bf16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use crate::ops::flex::isa::{Simd, Stride, Work};
    use std::arch::x86_64::*;

    /// Vectors of sixteen.
    #[derive(Clone, Copy)]
    pub(in crate::ops::flex) struct Avx512;

    pub(in crate::ops::flex) fn is_available() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
    }

    pub(in crate::ops::flex) fn has_bf16() -> bool {
        is_x86_feature_detected!("avx512bf16")
    }

    /// # Safety
    /// [`is_available`], and what the work asks.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    pub(in crate::ops::flex) unsafe fn run<W: Work>(work: W) -> W::Output {
        // SAFETY: passed on to the caller.
        unsafe { work.run::<Avx512>() }
    }

    /// # Safety
    /// [`is_available`], [`has_bf16`], and what the work asks.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
    pub(in crate::ops::flex) unsafe fn run_with_bf16<W: Work>(work: W) -> W::Output {
        // SAFETY: passed on to the caller.
        unsafe { work.run::<Avx512>() }
    }

    // SAFETY of every block: the trait's contract, which is the contract of the instruction used.
    impl Simd for Avx512 {
        type Vector = __m512;
        const LANES: usize = 16;
        const TILE_ROWS: usize = 12;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            unsafe { _mm512_setzero_ps() }
        }

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
        unsafe fn widen_pairs(from: *const u32) -> (__m512, __m512) {
            unsafe {
                let pairs = _mm512_loadu_si512(from.cast());
                let odd = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs)), _mm512_castsi512_ps(odd))
            }
        }

        #[inline(always)]
        unsafe fn widen_f16(from: *const u16) -> __m512 {
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
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

        #[inline(always)]
        unsafe fn transpose(from: *const u32, from_stride: Stride, to: *mut u32, to_stride: usize) {
            unsafe {
                let row = |i: usize| _mm512_loadu_si512(from.byte_add(i * from_stride.0).cast());
                // `quads[4 g + j]` holds in its lane `l` the column `4 l + j` of the rows `4 g..4 g + 4`.
                let mut quads = [_mm512_setzero_si512(); 16];
                for group in [0, 4, 8, 12] {
                    let [a, b, c, d] = [row(group), row(group + 1), row(group + 2), row(group + 3)];
                    let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
                    quads[group] = _mm512_unpacklo_epi64(ab, cd);
                    quads[group + 1] = _mm512_unpackhi_epi64(ab, cd);
                    let (ab, cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
                    quads[group + 2] = _mm512_unpacklo_epi64(ab, cd);
                    quads[group + 3] = _mm512_unpackhi_epi64(ab, cd);
                }
                let put = |column: usize, words| _mm512_storeu_si512(to.add(column * to_stride).cast(), words);
                for j in 0..4 {
                    let [a, b, c, d] = [quads[j], quads[j + 4], quads[j + 8], quads[j + 12]];
                    let (even, more) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0x88>(c, d));
                    put(j, _mm512_shuffle_i32x4::<0x88>(even, more));
                    put(j + 8, _mm512_shuffle_i32x4::<0xdd>(even, more));
                    let (odd, more) = (_mm512_shuffle_i32x4::<0xdd>(a, b), _mm512_shuffle_i32x4::<0xdd>(c, d));
                    put(j + 4, _mm512_shuffle_i32x4::<0x88>(odd, more));
                    put(j + 12, _mm512_shuffle_i32x4::<0xdd>(odd, more));
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
