//! CPU kernels of the encoder, on Flex's own buffers.

#![allow(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
mod absent;
mod attention;
mod avx2;
mod avx512;
mod field;
mod panels;
mod portable;
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
use field::{Extent, Field};
use half::{bf16, f16};
use rayon::prelude::*;

/// Hidden activations of an MLP at a time: they stay in the last cache, and no buffer may pass 32 MB.
const HIDDEN_BYTES: usize = 8 << 20;
/// Rows at a time however wide they are.
const MIN_ROWS: usize = 96;
/// Activations of a task.
const ACTIVATION_NUMBERS: usize = 64 << 10;

/// [`rel_pos_attention`](super::rel_pos_attention), or nothing where a tensor is not f32 on Flex or is tracked by autodiff.
pub(super) fn rel_pos_attention(
    precision: Precision,
    qkv: &Tensor<4>,
    overhang: &Tensor<1>,
    tables: [&Tensor<2>; 2],
) -> Option<Tensor<4>> {
    let [views, rows, columns, parts] = qkv.dims();
    let [offsets, head] = tables[0].dims();
    let (side, width) = (offsets.div_ceil(2), parts / 3);
    let (qkv, overhang) = (contiguous(qkv)?, contiguous(overhang)?);
    let [rel_h, rel_w] = [contiguous(tables[0])?, contiguous(tables[1])?];
    let field = Field {
        qkv: qkv.as_slice()?,
        overhang: overhang.as_slice()?,
        grid: Extent { rows, columns },
        window: Extent { rows: side, columns: side },
        heads: width / head,
        head,
        tables: Some([rel_h.as_slice()?, rel_w.as_slice()?]),
    };
    let mut y = FlexTensor::empty(Shape::from([views, rows, columns, width]), DType::F32);
    attend(Isa::best(), precision, &field, y.storage_mut::<f32>());
    Some(Tensor::from_primitive::<Flex>(y))
}

/// [`attention`](super::attention), or nothing where a tensor is not f32 on Flex or is tracked by autodiff.
pub(super) fn attention(precision: Precision, qkv: &Tensor<3>, heads: usize) -> Option<Tensor<3>> {
    let [views, tokens, parts] = qkv.dims();
    let (width, qkv) = (parts / 3, contiguous(qkv)?);
    let line = Extent { rows: 1, columns: tokens };
    let field = Field {
        qkv: qkv.as_slice()?,
        overhang: &[],
        grid: line,
        window: line,
        heads,
        head: width / heads,
        tables: None,
    };
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
