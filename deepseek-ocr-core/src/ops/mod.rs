//! Operations that two stages share. Model files never name a backend: each function here picks an implementation.

#[cfg(feature = "autodiff")]
pub mod autodiff;
#[cfg(feature = "_cube")]
pub mod cube;
#[cfg(feature = "flex")]
pub mod flex;
mod precision;
pub mod reference;

pub use precision::Precision;

use crate::quant::BlockWeight;
#[cfg(feature = "autodiff")]
use burn::tensor::DType;
use burn::tensor::Tensor;

/// `y = x W^T + b` over weights in any float type, with exact products; where autodiff tracks `x`, those of
/// [`autodiff::mixed_linear`] over weights that are not f32.
///
/// # Shapes
/// - `x`: `[rows, inputs]`, f32
/// - `weight`: `[outputs, inputs]`; bf16, f16 or f32
/// - `bias`: `[outputs]`, f32
/// - output: `[rows, outputs]`, f32
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    linear_with(Precision::Exact, x, weight, bias)
}

/// [`linear`] at a precision of choice.
///
/// # Shapes
/// As those of [`linear`].
pub fn linear_with(precision: Precision, x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::linear(&x, &weight, bias.as_ref(), precision) {
        return y;
    }
    #[cfg(feature = "_cube")]
    if let Some(y) = cube::linear(&x, &weight, bias.as_ref(), precision) {
        return y;
    }
    #[cfg(feature = "autodiff")]
    if x.is_autodiff() && weight.dtype() != DType::F32 {
        return autodiff::mixed_linear(x, weight, bias);
    }
    // The plain product knows one precision only.
    let _ = precision;
    reference::linear(x, weight, bias)
}

/// `y = x W^T + b` over a matrix in blocks.
///
/// On the CPU activations are rounded to 8 bits, too, in blocks of 32 with a scale each: about 0.5 % of an activation, as for `q8`
/// weights. A row's result does not depend on the other rows, however many there are.
///
/// # Shapes
/// - `x`: `[rows, inputs]`, f32
/// - `weight`: `[outputs, inputs]`
/// - `bias`: `[outputs]`, f32
/// - output: `[rows, outputs]`, f32
pub fn block_linear(x: Tensor<2>, weight: &BlockWeight, bias: Option<Tensor<1>>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::block_linear(&x, weight, bias.as_ref()) {
        return y;
    }
    reference::linear(x, reference::unpack(weight), bias)
}
