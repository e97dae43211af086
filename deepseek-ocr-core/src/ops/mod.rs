//! Operations that two stages share. Model files never name a backend: each function here picks an implementation.

pub mod reference;

use burn::tensor::Tensor;

/// `y = x W^T + b` over weights in any float type.
///
/// # Shapes
/// - `x`: `[rows, inputs]`, f32
/// - `weight`: `[outputs, inputs]`; bf16, f16 or f32
/// - `bias`: `[outputs]`, f32
/// - output: `[rows, outputs]`, f32
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    reference::linear(x, weight, bias)
}
