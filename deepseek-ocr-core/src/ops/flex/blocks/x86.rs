//! The operations on whole numbers in AVX-512 VNNI and in AVX2.

use super::{
    activations::{BLOCK_WORDS, OFFSET, START},
    integers::{IntegerWork, Integers},
};
use crate::{
    ops::flex::{avx2::Avx2, avx512::Avx512},
    quant::LEVELS,
};
use std::arch::x86_64::*;

/// Whether the CPU has `vpdpbusd` on vectors of 64 bytes.
pub(super) fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512vnni")
}

/// # Safety
/// AVX-512, [`has_vnni`], and what the work asks.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run_vnni<W: IntegerWork>(work: W) {
    // SAFETY: passed on to the caller.
    unsafe { work.run::<Avx512>() }
}

/// # Safety
/// AVX2, FMA, F16C, and what the work asks.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn run_avx2<W: IntegerWork>(work: W) {
    // SAFETY: passed on to the caller.
    unsafe { work.run::<Avx2>() }
}

/// The levels of four bits as bytes; from unsigned ones [`OFFSET`] was not taken yet.
const SIGNED: [i8; 16] = LEVELS;
const UNSIGNED: [u8; 16] = {
    let mut levels = [0; 16];
    let mut i = 0;
    while i < levels.len() {
        levels[i] = (LEVELS[i] as i32 + OFFSET) as u8;
        i += 1;
    }
    levels
};

// SAFETY of every block: the trait's contract, which is the contract of the instruction used.
/// `vpdpbusd` takes one operand without sign: the weights, raised by [`OFFSET`]; sums start at what that adds.
impl Integers for Avx512 {
    type Levels = __m512i;
    type Sums = __m512i;
    const ROWS: usize = 6;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn read_q8(from: *const i32) -> __m512i {
        unsafe { _mm512_xor_si512(_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(i8::MIN)) }
    }

    #[inline(always)]
    unsafe fn read_q4(from: *const i32) -> [__m512i; 2] {
        unsafe {
            let levels = _mm512_broadcast_i32x4(_mm_loadu_si128(UNSIGNED.as_ptr().cast()));
            let (halves, low) = (_mm512_loadu_si512(from.cast()), _mm512_set1_epi8(0xf));
            let high = _mm512_and_si512(_mm512_srli_epi16::<4>(halves), low);
            [_mm512_shuffle_epi8(levels, _mm512_and_si512(halves, low)), _mm512_shuffle_epi8(levels, high)]
        }
    }

    #[inline(always)]
    unsafe fn start(block: &[u32; BLOCK_WORDS]) -> __m512i {
        unsafe { _mm512_set1_epi32(block[START].cast_signed()) }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m512i, weights: __m512i, x: u32) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, _mm512_set1_epi32(x.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn to_float(sums: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
}

// SAFETY of every block: as above.
/// `vpmaddubsw` takes one operand without sign, too, and its sums of two products must stay below 2^15: that is the size of the
/// activations, and their sign goes to the weights.
impl Integers for Avx2 {
    type Levels = __m256i;
    type Sums = __m256i;
    const ROWS: usize = 2;
    const VECTORS: usize = 2;

    #[inline(always)]
    unsafe fn read_q8(from: *const i32) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn read_q4(from: *const i32) -> [__m256i; 2] {
        unsafe {
            let levels = _mm256_broadcastsi128_si256(_mm_loadu_si128(SIGNED.as_ptr().cast()));
            let (halves, low) = (_mm256_loadu_si256(from.cast()), _mm256_set1_epi8(0xf));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(halves), low);
            [_mm256_shuffle_epi8(levels, _mm256_and_si256(halves, low)), _mm256_shuffle_epi8(levels, high)]
        }
    }

    #[inline(always)]
    unsafe fn start(_: &[u32; BLOCK_WORDS]) -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn dot(sums: __m256i, weights: __m256i, x: u32) -> __m256i {
        unsafe {
            let x = _mm256_set1_epi32(x.cast_signed());
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(weights, x));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    unsafe fn to_float(sums: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(sums) }
    }
}
