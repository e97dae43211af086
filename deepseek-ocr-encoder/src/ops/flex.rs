//! CPU kernels of the encoder, on Flex's own buffers.

#![allow(unsafe_code)]

mod attention;
mod field;
mod panels;
mod simd;

use super::Activation;
use attention::attend;
use burn::{
    backend::Flex,
    tensor::{DType, Shape, Tensor},
};
use burn_flex::FlexTensor;
use deepseek_ocr_core::{
    StoredLinear,
    ops::{
        Precision,
        flex::{Isa, Kernel, Matrix, Weights},
    },
};
use field::{Extent, Field, Place};
use half::{bf16, f16};
use rayon::prelude::*;

/// Hidden activations of an MLP at a time: they stay in the last cache, and no buffer may pass 32 MB.
const HIDDEN_BYTES: usize = 8 << 20;
/// Queries, keys and values at a time: no buffer may pass 32 MB.
const QKV_BYTES: usize = 24 << 20;
/// Rows at a time however wide they are.
const MIN_ROWS: usize = 96;
/// Activations of a task.
const ACTIVATION_NUMBERS: usize = 64 << 10;

/// [`rel_pos_attention`](super::rel_pos_attention), or nothing where a tensor is not on Flex, is tracked by autodiff or has another
/// type.
///
/// Some heads at a time: the queries, keys and values of all are 59 MB for a view of 1280.
pub(super) fn rel_pos_attention(
    precision: Precision,
    x: &Tensor<4>,
    qkv: &StoredLinear,
    tables: [&Tensor<2>; 2],
) -> Option<Tensor<4>> {
    rel_pos_attention_in_groups(precision, x, qkv, tables, QKV_BYTES)
}

/// As many heads at a time as `bytes` hold the queries, keys and values of; one at least.
fn rel_pos_attention_in_groups(
    precision: Precision,
    x: &Tensor<4>,
    qkv: &StoredLinear,
    tables: [&Tensor<2>; 2],
    bytes: usize,
) -> Option<Tensor<4>> {
    let [views, rows, columns, width] = x.dims();
    let [offsets, head] = tables[0].dims();
    let (side, heads, tokens) = (offsets.div_ceil(2), width / head, views * rows * columns);
    let (x, layer) = (contiguous(x)?, Layer::of(qkv)?);
    let (x, matrix, bias) = (x.as_slice::<f32>()?, layer.matrix()?, layer.bias()?);
    let [rel_h, rel_w] = [contiguous(tables[0])?, contiguous(tables[1])?];
    let tables = [rel_h.as_slice()?, rel_w.as_slice()?];
    let zeros = vec![0.0; if bias.is_none() { width } else { 0 }];
    let groups = (3 * tokens * width * size_of::<f32>()).div_ceil(bytes).min(heads);
    let mut buffers: [Vec<f32>; 3] = Default::default();
    let mut y = FlexTensor::empty(Shape::from([views, rows, columns, width]), DType::F32);
    for group in 0..groups {
        let group = group * heads / groups..(group + 1) * heads / groups;
        let columns_of = |part: usize| part * width + group.start * head..part * width + group.end * head;
        for (part, buffer) in buffers.iter_mut().enumerate() {
            buffer.resize(tokens * group.len() * head, 0.0);
            let bias = bias.map(|bias| &bias[columns_of(part)]);
            Kernel::new(precision).linear(x, matrix.rows(columns_of(part)), bias, buffer);
        }
        let field = Field {
            parts: buffers.each_ref().map(Vec::as_slice),
            stride: group.len() * head,
            // Windows overhang the view with patches of zeros, of which the projection makes its bias.
            overhang: [0, 1, 2].map(|part| match bias {
                Some(bias) => &bias[columns_of(part)],
                None => &zeros[..group.len() * head],
            }),
            views,
            grid: Extent { rows, columns },
            window: Extent { rows: side, columns: side },
            heads: group.len(),
            head,
            place: Place { first: group.start, of: heads },
            tables: Some(tables),
        };
        attend(Isa::best(), precision, &field, y.storage_mut::<f32>());
    }
    Some(Tensor::from_primitive::<Flex>(y))
}

/// [`attention`](super::attention), or nothing where a tensor is not f32 on Flex or is tracked by autodiff.
pub(super) fn attention(precision: Precision, qkv: &Tensor<3>, heads: usize) -> Option<Tensor<3>> {
    let [views, tokens, parts] = qkv.dims();
    let (width, qkv) = (parts / 3, contiguous(qkv)?);
    let field = Field::line(qkv.as_slice()?, [views, tokens, heads, width / heads]);
    let mut y = FlexTensor::empty(Shape::from([views, tokens, width]), DType::F32);
    attend(Isa::best(), precision, &field, y.storage_mut::<f32>());
    Some(Tensor::from_primitive::<Flex>(y))
}

/// [`mlp`](super::mlp), or nothing where a tensor is not on Flex, is tracked by autodiff or has another type.
///
/// Rows go through both layers some at a time: all hidden activations of a page view are 50 MB.
pub(super) fn mlp<const D: usize>(
    precision: Precision,
    layers: [&StoredLinear; 2],
    activation: Activation,
    x: &Tensor<D>,
) -> Option<Tensor<D>> {
    let mut shape = x.dims();
    let (x, up, down) = (contiguous(x)?, Layer::of(layers[0])?, Layer::of(layers[1])?);
    let (x, up_bias, down_bias) = (x.as_slice::<f32>()?, up.bias()?, down.bias()?);
    let (up, down) = (up.matrix()?, down.matrix()?);
    let rows: usize = shape[..D - 1].iter().product();
    if rows == 0 {
        return None;
    }
    shape[D - 1] = down.outputs();
    let mut y = FlexTensor::empty(Shape::from(shape), DType::F32);
    let at_once = (HIDDEN_BYTES / (up.outputs() * size_of::<f32>())).max(MIN_ROWS).min(rows);
    let mut hidden = vec![0.0; at_once * up.outputs()];
    let kernel = Kernel::new(precision);
    let chunks = x.chunks(at_once * up.inputs()).zip(y.storage_mut::<f32>().chunks_mut(at_once * down.outputs()));
    for (x, y) in chunks {
        let hidden = &mut hidden[..x.len() / up.inputs() * up.outputs()];
        kernel.linear(x, up, up_bias, hidden);
        hidden.par_chunks_mut(ACTIVATION_NUMBERS).for_each(|hidden| match activation {
            Activation::GeluErf => kernel.gelu_erf(hidden),
            Activation::QuickGelu => kernel.quick_gelu(hidden),
        });
        kernel.linear(hidden, down, down_bias, y);
    }
    Some(Tensor::from_primitive::<Flex>(y))
}

/// A layer as it lies in Flex's memory.
struct Layer {
    weight: FlexTensor,
    bias: Option<FlexTensor>,
    dims: [usize; 2],
}

impl Layer {
    fn of(layer: &StoredLinear) -> Option<Self> {
        let weight = layer.weight.val();
        let bias = match &layer.bias {
            Some(bias) => Some(contiguous(&bias.val())?),
            None => None,
        };
        Some(Self { dims: weight.dims(), weight: contiguous(&weight)?, bias })
    }

    fn matrix(&self) -> Option<Matrix<'_>> {
        let weights = match self.weight.dtype() {
            DType::BF16 => Weights::Bf16(self.weight.as_slice::<bf16>()?),
            DType::F16 => Weights::F16(self.weight.as_slice::<f16>()?),
            DType::F32 => Weights::F32(self.weight.as_slice::<f32>()?),
            _ => return None,
        };
        let [outputs, inputs] = self.dims;
        Some(Matrix::new(weights, outputs, inputs))
    }

    /// Nothing if there is one of another type than f32.
    fn bias(&self) -> Option<Option<&[f32]>> {
        match &self.bias {
            Some(bias) => bias.as_slice().map(Some),
            None => Some(None),
        }
    }
}

/// The tensor as it lies in Flex's memory, copied only if its rows do not lie one after the other.
fn contiguous<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
    Some(if tensor.layout().contiguous_offsets().is_some() { tensor } else { tensor.to_contiguous() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{generated, ops};
    use burn::{module::Param, tensor::Device};
    use deepseek_ocr_core::LinearWeight;

    #[test]
    fn heads_in_groups_equal_all_heads() {
        let (views, grid, side, heads, head) = (2, 5, 3, 5, 8);
        let width = heads * head;
        let on_flex = |x: Tensor<2>| x.to_device(&Device::flex());
        let weight = Param::from_tensor(on_flex(generated::tensor([3 * width, width])));
        let weight = LinearWeight::Stored(weight);
        let bias = on_flex(generated::tensor([1, 3 * width])).reshape([3 * width]);
        let x = on_flex(generated::tensor([views * grid * grid, width])).reshape([views, grid, grid, width]);
        let tables =
            [1, 2].map(|rows| on_flex(generated::tensor([rows * (2 * side - 1), head]).narrow(0, 0, 2 * side - 1)));
        for bias in [None, Some(Param::from_tensor(bias))] {
            let layer = StoredLinear { weight: weight.clone(), bias };
            let overhang = match &layer.bias {
                Some(bias) => bias.val(),
                None => Tensor::zeros([3 * width], &Device::flex()),
            };
            let all = ops::linear(Precision::Exact, &layer, x.clone());
            let expected = ops::reference::window_attention(all, overhang, tables.clone()).into_data();
            let bytes_per_head = 3 * views * grid * grid * head * size_of::<f32>();
            for heads_at_once in [0, 1, 2, 3, 5] {
                let bytes = (heads_at_once * bytes_per_head).max(1);
                let [rel_h, rel_w] = &tables;
                let y = rel_pos_attention_in_groups(Precision::Exact, &x, &layer, [rel_h, rel_w], bytes);
                let y = y.expect("tensors are on Flex").into_data();
                y.assert_approx_eq::<f32>(&expected, burn::tensor::Tolerance::absolute(1e-5));
            }
        }
    }
}
