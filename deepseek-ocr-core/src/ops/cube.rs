//! GPU kernels over stored weights: one source for CUDA, ROCm, Metal, Vulkan and WebGPU, through CubeCL.
//!
//! Here tensors become buffers and back; the kernels are in [`rows`]. Other crates build theirs on the same parts.

#![allow(unsafe_code)]

pub mod parts;
pub mod rows;
#[cfg(all(test, feature = "wgpu"))]
mod tests;

use super::Precision;
use burn::{
    backend::cubecl::dtype_to_elem_type,
    tensor::{DType, Device, FloatDType, Int, Shape, Tensor},
};
use burn_cubecl::kernel::into_contiguous;
pub use burn_cubecl::{
    CubeBackend,
    cubecl::{self, client::Client, ir::ElemType},
    tensor::CubeTensor,
};
use rows::Gather;

/// Rows up to which a product streams the weights for each row: later rows find them in the cache.
pub const FEW_ROWS: usize = 16;

/// Numbers that a unit reads at once, at most: what every graphics interface has.
const MAX_LANES: usize = 4;

/// [`linear_with`](super::linear_with), or nothing where a tensor is not on a GPU, is tracked by autodiff or has another type, and for
/// many rows whose products are exact.
///
/// Of up to [`FEW_ROWS`] rows none depends on the others.
pub fn linear(x: &Tensor<2>, weight: &Tensor<2>, bias: Option<&Tensor<1>>, precision: Precision) -> Option<Tensor<2>> {
    let ([rows, inputs], [outputs, weight_inputs]) = (x.dims(), weight.dims());
    assert_eq!(inputs, weight_inputs, "a weight of {outputs} x {weight_inputs} takes as many inputs");
    let (numbers, matrix) = (float(x, DType::F32)?, weights(weight)?);
    let y = match rows {
        0 => return None,
        1..=FEW_ROWS => tensor(rows::products(&numbers, &matrix, &Gather::none(&numbers))),
        _ if precision == Precision::Bf16 && matrix.dtype == DType::BF16 => {
            x.clone().cast(FloatDType::BF16).matmul(weight.clone().transpose()).cast(FloatDType::F32)
        }
        _ => return None,
    };
    Some(match bias {
        Some(bias) => y + bias.clone().unsqueeze(),
        None => y,
    })
}

/// Whether tensors of this device have buffers that kernels here take.
pub fn is_gpu(device: &Device) -> bool {
    Tensor::<1>::empty([1], device).try_into_primitive::<CubeBackend>().is_ok()
}

/// The tensor as it lies in the GPU's memory, copied only if its numbers do not lie one after the other.
pub fn float<const D: usize>(tensor: &Tensor<D>, dtype: DType) -> Option<CubeTensor> {
    let tensor = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    (tensor.dtype == dtype).then(|| into_contiguous(tensor))
}

/// Integers of 32 bits, as [`float`].
pub fn int<const D: usize>(tensor: &Tensor<D, Int>) -> Option<CubeTensor> {
    let tensor = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    (tensor.dtype == DType::I32).then(|| into_contiguous(tensor))
}

/// A matrix, or a stack of them, in any float type; its rows may lie apart, so that it is not copied.
pub fn weights<const D: usize>(tensor: &Tensor<D>) -> Option<CubeTensor> {
    let tensor = tensor.clone().try_into_primitive::<CubeBackend>().ok()?;
    let known = matches!(tensor.dtype, DType::BF16 | DType::F16 | DType::F32);
    let dense = tensor.meta.strides()[D - 1] == 1;
    known.then(|| if dense { tensor } else { into_contiguous(tensor) })
}

/// A tensor of what a kernel wrote.
pub fn tensor<const D: usize>(tensor: CubeTensor) -> Tensor<D> {
    Tensor::from_primitive::<CubeBackend>(tensor)
}

/// Integers that a kernel wrote, as [`tensor`].
pub fn int_tensor<const D: usize>(tensor: CubeTensor) -> Tensor<D, Int> {
    Tensor::from_primitive::<CubeBackend>(tensor)
}

/// Room for an output beside `like`.
pub fn empty<const D: usize>(like: &CubeTensor, shape: [usize; D], dtype: DType) -> CubeTensor {
    let bytes = shape.iter().product::<usize>() * dtype.size();
    // A buffer of nothing cannot be bound.
    let buffer = like.client.empty(bytes.max(dtype.size()));
    CubeTensor::new_contiguous(like.client.clone(), like.device.clone(), Shape::from(shape), buffer, dtype)
}

/// How many numbers units read at once from rows of these lengths or distances.
pub fn lanes(lengths: impl IntoIterator<Item = usize>) -> usize {
    let fits = |n: usize, length: usize| MAX_LANES.is_multiple_of(n) && length.is_multiple_of(n);
    let common = |lanes: usize, length: usize| (1..=lanes).rev().find(|&n| fits(n, length)).unwrap_or(1);
    lengths.into_iter().fold(MAX_LANES, common)
}

/// The type of a tensor's numbers, for a kernel.
pub fn element(tensor: &CubeTensor) -> ElemType {
    dtype_to_elem_type(tensor.dtype)
}
