//! Parts that kernels share.

#![allow(missing_docs)] // Of the modules that the macro makes beside each function.

use super::cubecl;
use cubecl::prelude::*;

/// `x / (1 + e^-x)`.
#[cube]
pub fn silu(x: f32) -> f32 {
    x / (f32::new(1.0) + f32::exp(-x))
}

/// The sum of a vector's numbers.
#[cube]
pub fn lane_sum<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = f32::new(0.0);
    #[unroll]
    for lane in 0..N::value() {
        sum += vector.extract(lane);
    }
    sum
}
