//! The shared operations in plain tensor code: the specification, the fallback for any backend, the oracle of the tests.

use burn::tensor::{DType, FloatDType, Tensor};

/// See [`linear`](super::linear).
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(widen(weight).transpose());
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// Burn does not promote data types by itself.
fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
}
