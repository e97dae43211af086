//! CPU kernels on Flex's own buffers.
//!
//! Weights go through the products of the core crate, in whatever format they are stored: no copy of them is made, and for
//! few rows each is read once. Here tensors become slices; [`experts`] and [`attention`] work on slices.

#![allow(unsafe_code)]

mod attention;
mod experts;
mod pass;
#[cfg(test)]
mod tests;
mod vector;

use super::Rows;
use crate::{GatedMlp, LayerCache, Moe, Place, Rotation, Routing};
use burn::{
    backend::Flex,
    tensor::{DType, Shape, Tensor},
};
use burn_flex::FlexTensor;
use deepseek_ocr_core::{
    StoredLinear,
    ops::{
        Precision,
        flex::{Isa, Kernel, Layer, Matrix, Weights},
    },
};
use experts::{Gated, Routed};
pub(super) use pass::pass;
use rayon::prelude::*;
use std::collections::BTreeMap;
use vector::Rotate;

/// Outputs of routed experts that are held at once: below the size from which allocators give every buffer back to the
/// system.
const MAX_ROUTED_BYTES: usize = 24 << 20;

/// Vectors of a head that one task rotates.
const VECTORS_PER_TASK: usize = 256;

/// Each function here gives nothing where a tensor is not on Flex, is tracked by autodiff or has another type.
pub(super) fn linears<const N: usize>(rows: Rows, x: &Tensor<2>, layers: [&StoredLinear; N]) -> Option<[Tensor<2>; N]> {
    let (count, x) = (x.dims()[0], floats(x)?);
    let x = x.as_slice::<f32>()?;
    let mut products = Vec::with_capacity(N);
    for layer in layers {
        let layer = Layer::of(layer)?;
        let y = output([count, layer.matrix().outputs()]);
        products.push((layer, y));
    }
    let kernel = kernel(rows);
    products.par_iter_mut().for_each(|(layer, y)| kernel.linear(x, layer.matrix(), None, y.storage_mut()));
    let tensors: Vec<Tensor<2>> = products.into_iter().map(|(_, y)| Tensor::from_primitive::<Flex>(y)).collect();
    tensors.try_into().ok()
}

pub(super) fn scores(rows: Rows, x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
    let ([count, inputs], outputs) = (x.dims(), weight.dims()[0]);
    let (x, weight) = (floats(x)?, floats(weight)?);
    let matrix = Matrix::new(Weights::F32(weight.as_slice::<f32>()?), outputs, inputs);
    let mut y = output([count, outputs]);
    kernel(rows).linear(x.as_slice::<f32>()?, matrix, None, y.storage_mut());
    Some(Tensor::from_primitive::<Flex>(y))
}

pub(super) fn gated_mlp(rows: Rows, x: &Tensor<2>, mlp: &GatedMlp) -> Option<Tensor<2>> {
    let (shape, x) = (x.dims(), floats(x)?);
    let layers = Layers::of(mlp)?;
    let mut y = output(shape);
    layers.gated().forward(kernel(rows), x.as_slice::<f32>()?, y.storage_mut());
    Some(Tensor::from_primitive::<Flex>(y))
}

pub(super) fn expert_mlp(rows: Rows, x: &Tensor<2>, routing: &Routing, moe: &Moe) -> Option<Tensor<2>> {
    let experts = moe.experts.each()?;
    let ([_, hidden], [_, chosen]) = (x.dims(), routing.weights.dims());
    let (shape, x, weights) = (x.dims(), floats(x)?, floats(&routing.weights)?);
    let (x, weights) = (x.as_slice::<f32>()?, weights.as_slice::<f32>()?);
    let indices: Vec<usize> = routing.indices.to_data().iter::<i64>().map(|expert| expert as usize).collect();
    let shared = Layers::of(&moe.shared_experts)?;
    let mut y = output(shape);
    let chunk = (MAX_ROUTED_BYTES / (chosen * hidden * size_of::<f32>())).max(1);
    let chunks = x.chunks(chunk * hidden).zip(indices.chunks(chunk * chosen)).zip(weights.chunks(chunk * chosen));
    for (((x, indices), weights), y) in chunks.zip(y.storage_mut::<f32>().chunks_mut(chunk * hidden)) {
        let mut slots = BTreeMap::<usize, Vec<(usize, f32)>>::new();
        for (slot, (&expert, &weight)) in indices.iter().zip(weights).enumerate() {
            slots.entry(expert).or_default().push((slot / chosen, weight));
        }
        let touched = slots.into_iter().map(|(expert, slots)| Some((Layers::of(&experts[expert])?, slots)));
        let touched = touched.collect::<Option<Vec<_>>>()?;
        let routed: Vec<_> = touched.iter().map(|(layers, slots)| Routed { expert: layers.gated(), slots }).collect();
        experts::mix(kernel(rows), x, &shared.gated(), &routed, y);
    }
    Some(Tensor::from_primitive::<Flex>(y))
}

pub(super) fn rotate(x: &Tensor<3>, rotation: &Rotation) -> Option<Tensor<3>> {
    let ([_, inner, width], [_, turns, _]) = (x.dims(), rotation.cos.dims());
    let (x, cos, sin) = (floats(x)?, floats(&rotation.cos)?, floats(&rotation.sin)?);
    let mut y = output(x.layout().shape().dims::<3>());
    let vectors = x.as_slice::<f32>()?.par_chunks_exact(width).zip(y.storage_mut::<f32>().par_chunks_exact_mut(width));
    let (cos, sin) = (cos.as_slice::<f32>()?, sin.as_slice::<f32>()?);
    let isa = Isa::best();
    vectors.enumerate().with_min_len(VECTORS_PER_TASK).for_each(|(at, (x, y))| {
        // One turn for each position of a sequence, or one for all heads of a row.
        let turn = if turns == inner { at % inner } else { at / inner };
        let place = turn * width / 2..(turn + 1) * width / 2;
        vector::run(isa, Rotate { x, cos: &cos[place.clone()], sin: &sin[place], y });
    });
    Some(Tensor::from_primitive::<Flex>(y))
}

pub(super) fn causal_attention(queries: &Tensor<3>, keys: &Tensor<3>, values: &Tensor<3>) -> Option<Tensor<3>> {
    let [heads, length, width] = queries.dims();
    let shape = attention::Causal { heads, length, total: keys.dims()[1], width };
    let (queries, keys, values) = (floats(queries)?, floats(keys)?, floats(values)?);
    let mut y = output([heads, length, width]);
    let operands = [queries.as_slice::<f32>()?, keys.as_slice::<f32>()?, values.as_slice::<f32>()?];
    shape.attend(Isa::best(), operands, y.storage_mut());
    Some(Tensor::from_primitive::<Flex>(y))
}

pub(super) fn decode_attention(queries: &Tensor<3>, cache: &LayerCache, places: &[Place]) -> Option<Tensor<3>> {
    let ([_, heads, width], queries) = (queries.dims(), floats(queries)?);
    let [keys, values] = cache.slabs().map(|slabs| slabs.iter().map(floats).collect::<Option<Vec<_>>>());
    let (keys, values) = (keys?, values?);
    let (keys, values) = (slices(&keys)?, slices(&values)?);
    let decode = attention::Decode { heads, width, keys: &keys, values: &values };
    let mut y = output([places.len(), heads, width]);
    decode.attend(Isa::best(), queries.as_slice::<f32>()?, places, y.storage_mut());
    Some(Tensor::from_primitive::<Flex>(y))
}

fn slices(tensors: &[FlexTensor]) -> Option<Vec<&[f32]>> {
    tensors.iter().map(|tensor| tensor.as_slice::<f32>()).collect()
}

/// The weights of a gated layer.
struct Layers([Layer; 3]);

impl Layers {
    fn of(mlp: &GatedMlp) -> Option<Self> {
        Some(Self([Layer::of(&mlp.gate_proj)?, Layer::of(&mlp.up_proj)?, Layer::of(&mlp.down_proj)?]))
    }

    fn gated(&self) -> Gated<'_> {
        let [gate, up, down] = &self.0;
        Gated { gate: gate.matrix(), up: up.matrix(), down: down.matrix() }
    }
}

fn kernel(rows: Rows) -> Kernel {
    match rows {
        Rows::Together(precision) => Kernel::new(precision),
        Rows::Apart => Kernel::new(Precision::Exact).steady(),
    }
}

/// The tensor as it lies in Flex's memory, copied only if its rows do not lie one after the other.
fn floats<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
    let contiguous = tensor.layout().contiguous_offsets().is_some();
    (tensor.dtype() == DType::F32).then(|| if contiguous { tensor } else { tensor.to_contiguous() })
}

/// Room for an output.
fn output<const D: usize>(shape: [usize; D]) -> FlexTensor {
    FlexTensor::empty(Shape::from(shape), DType::F32)
}
