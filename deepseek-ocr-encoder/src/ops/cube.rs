//! GPU kernels of the encoder: one source for CUDA, ROCm, Metal, Vulkan and WebGPU, through CubeCL.

#![allow(unsafe_code)]

mod attention;
#[cfg(all(test, feature = "wgpu"))]
mod tests;

use attention::{Field, attend};
use burn::tensor::{DType, Tensor};
use deepseek_ocr_core::ops::cube::{empty, float, tensor};

/// [`rel_pos_attention`](super::rel_pos_attention) over a projection, or nothing where a tensor is not f32 on a GPU or is tracked by
/// autodiff.
///
/// # Shapes
/// - `qkv`: `[views, rows, columns, 3 * heads * head]`
/// - `overhang`: `[3 * heads * head]`
/// - `tables`: `[2 * side - 1, head]`, twice
/// - output: `[views, rows, columns, heads * head]`
pub(super) fn rel_pos_attention(qkv: &Tensor<4>, overhang: &Tensor<1>, tables: [&Tensor<2>; 2]) -> Option<Tensor<4>> {
    let [views, rows, columns, parts] = qkv.dims();
    let [offsets, head] = tables[0].dims();
    let field = Field { views, rows, columns, side: offsets.div_ceil(2), heads: parts / 3 / head, head };
    let (qkv, overhang) = (float(qkv, DType::F32)?, float(overhang, DType::F32)?);
    let tables = [float(tables[0], DType::F32)?, float(tables[1], DType::F32)?];
    let y = empty(&qkv, [views, rows, columns, parts / 3], DType::F32);
    attend(&field, &qkv, &overhang, tables, &y);
    Some(tensor(y))
}
