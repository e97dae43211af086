//! The kernels' operations in plain Rust, shaped so that the compiler vectorises them.

use super::isa::{Simd, Stride};
use half::f16;

/// Vectors of four: one register of SSE2 or NEON.
#[derive(Clone, Copy)]
pub(super) struct Portable;

const LANES: usize = 4;
/// Where it is not an instruction, a fused multiply-add is a slow function call.
const FUSED: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

impl Simd for Portable {
    type Vector = [f32; LANES];
    const LANES: usize = LANES;
    const FUSED: bool = FUSED;
    const TILE_ROWS: usize = 6;

    #[inline(always)]
    unsafe fn zero() -> Self::Vector {
        [0.0; LANES]
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::Vector {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::Vector {
        // SAFETY: the caller's pointer holds LANES numbers.
        unsafe { from.cast::<Self::Vector>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: Self::Vector) {
        // SAFETY: the caller's pointer has room for LANES numbers.
        unsafe { to.cast::<Self::Vector>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] + b[i])
    }

    #[inline(always)]
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] - b[i])
    }

    #[inline(always)]
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| a[i] * b[i])
    }

    #[inline(always)]
    unsafe fn mul_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if FUSED { a[i].mul_add(b[i], c[i]) } else { a[i] * b[i] + c[i] })
    }

    #[inline(always)]
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    unsafe fn round(vector: Self::Vector) -> Self::Vector {
        // Beyond 2^23 every f32 is whole; below, this sum leaves no room for a fraction.
        const WHOLE: f32 = 12_582_912.0;
        vector.map(|x| if x.abs() < 4_194_304.0 { (x + WHOLE) - WHOLE } else { x })
    }

    #[inline(always)]
    unsafe fn scale(vector: Self::Vector, exponent: Self::Vector) -> Self::Vector {
        std::array::from_fn(|i| {
            let biased = exponent[i].clamp(-127.0, 127.0) as i32 + 127;
            vector[i] * f32::from_bits((biased as u32) << 23)
        })
    }

    #[inline(always)]
    unsafe fn largest(vector: Self::Vector) -> f32 {
        vector.into_iter().fold(f32::NEG_INFINITY, |largest, x| if largest > x { largest } else { x })
    }

    #[inline(always)]
    unsafe fn sum(vector: Self::Vector) -> f32 {
        (vector[0] + vector[2]) + (vector[1] + vector[3])
    }

    #[inline(always)]
    unsafe fn widen_pairs(from: *const u32) -> (Self::Vector, Self::Vector) {
        // SAFETY: the caller's pointer holds LANES pairs.
        let pairs = unsafe { from.cast::<[u32; LANES]>().read_unaligned() };
        let (even, odd) = if cfg!(target_endian = "little") { (16, 0) } else { (0, 16) };
        let half = |shift: u32| pairs.map(|pair| f32::from_bits((pair << shift) & 0xffff_0000));
        (half(even), half(odd))
    }

    #[inline(always)]
    unsafe fn widen_f16(from: *const u16) -> Self::Vector {
        // SAFETY: the caller's pointer holds LANES numbers.
        let bits = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        bits.map(|bits| f16::from_bits(bits).to_f32_const())
    }

    #[inline(always)]
    unsafe fn transpose(from: *const u32, from_stride: Stride, to: *mut u32, to_stride: usize) {
        for row in 0..LANES {
            // SAFETY: the caller's pointers hold a block of LANES x LANES words at these strides.
            unsafe {
                let words = from.byte_add(row * from_stride.0).cast::<[u32; LANES]>().read_unaligned();
                for (column, word) in words.into_iter().enumerate() {
                    to.add(column * to_stride + row).write(word);
                }
            }
        }
    }
}
