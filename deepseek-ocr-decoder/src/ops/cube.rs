//! GPU kernels of the decoder: one source for CUDA, ROCm, Metal, Vulkan and WebGPU, through CubeCL.
//!
//! The host never waits for a router: [`routing`] chooses experts and groups positions by expert on the device. Few rows stream the
//! weights of their experts ([`rows`](deepseek_ocr_core::ops::cube::rows)), many share them in tiles ([`tiles`]).

#![allow(unsafe_code)]

mod attention;
mod best;
mod norm;
mod routing;
#[cfg(all(test, feature = "wgpu"))]
mod tests;
mod tiles;

use super::Rows;
use crate::{Experts, GatedMlp, LayerCache, Moe, Places, Routing, sampling::MOST_TOKENS};
use burn::{
    nn::RmsNorm,
    tensor::{DType, Tensor, TensorData, activation, read_sync},
};
use deepseek_ocr_core::{
    LinearWeight, StoredLinear,
    ops::{
        cube::{
            CubeBackend, CubeTensor, FEW_ROWS,
            cubecl::server::CopyDescriptor,
            float, int, int_tensor,
            rows::{self, Gather},
            tensor, weights,
        },
        linear_with,
    },
};
use tiles::Groups;

/// Each function here gives nothing where a tensor is not on a GPU, is tracked by autodiff or has another type.
///
/// A row's result does not depend on the rows beside it, as long as there are few or many of them: sums of up to
/// [`FEW_ROWS`] rows are made in another order than those of more.
pub(super) fn linears<const N: usize>(rows: Rows, x: &Tensor<2>, layers: [&StoredLinear; N]) -> Option<[Tensor<2>; N]> {
    let layers = layers.iter().map(|layer| one(rows, x, layer));
    layers.collect::<Option<Vec<_>>>()?.try_into().ok()
}

fn one(rows: Rows, x: &Tensor<2>, layer: &StoredLinear) -> Option<Tensor<2>> {
    let (numbers, weight) = (float(x, DType::F32)?, matrix(layer)?);
    match (x.dims()[0], rows) {
        (0, _) => None,
        (1..=FEW_ROWS, _) | (_, Rows::Apart) => Some(tensor(product(&numbers, &weight))),
        (_, Rows::Together(precision)) => Some(linear_with(precision, x.clone(), layer.weight.val(), None)),
    }
}

/// Always with these kernels: others may round to TF32, and another expert is another text.
pub(super) fn scores(x: &Tensor<2>, weight: &Tensor<2>) -> Option<Tensor<2>> {
    let (x, weight) = (float(x, DType::F32)?, float(weight, DType::F32)?);
    (x.meta.shape()[0] > 0).then(|| tensor(product(&x, &weight)))
}

pub(super) fn choose(scores: &Tensor<2>, chosen: usize) -> Option<Routing> {
    let [positions, experts] = scores.dims();
    if positions == 0 || experts > routing::MAX_EXPERTS {
        return None;
    }
    let (indices, weights) = routing::choose(&float(scores, DType::F32)?, chosen);
    Some(Routing { indices: int_tensor(indices), weights: tensor(weights) })
}

pub(super) fn gated_mlp(rows: Rows, x: &Tensor<2>, mlp: &GatedMlp) -> Option<Tensor<2>> {
    let (count, numbers) = (x.dims()[0], float(x, DType::F32)?);
    let [gate, up, down] = [matrix(&mlp.gate_proj)?, matrix(&mlp.up_proj)?, matrix(&mlp.down_proj)?];
    if count == 0 || gate.dtype != up.dtype {
        return None;
    }
    if count > FEW_ROWS && rows != Rows::Apart {
        let [gate, up] = linears(rows, x, [&mlp.gate_proj, &mlp.up_proj])?;
        return one(rows, &(activation::silu(gate) * up), &mlp.down_proj);
    }
    let hidden = match count > FEW_ROWS {
        false => rows::gated(&numbers, [&gate, &up], &Gather::none(&numbers)),
        true => tiles::gated(&numbers, [&gate, &up], None),
    };
    Some(tensor(product(&hidden, &down)))
}

pub(super) fn expert_mlp(rows: Rows, x: &Tensor<2>, routing: &Routing, moe: &Moe) -> Option<Tensor<2>> {
    let Experts::Stacked(stack) = &moe.experts else { return None };
    let ([positions, _], [_, chosen]) = (x.dims(), routing.weights.dims());
    let experts = stack.gate_proj.dims()[0];
    if positions == 0 || experts > routing::MAX_EXPERTS {
        return None;
    }
    let [gate, up, down] = [&stack.gate_proj, &stack.up_proj, &stack.down_proj].map(|stack| weights(&stack.val()));
    let (gate, up, down) = (gate?, up?, down?);
    let (indices, factors) = (int(&routing.indices)?, float(&routing.weights, DType::F32)?);
    let inputs = float(x, DType::F32)?;
    let routed = if positions <= FEW_ROWS {
        let hidden = rows::gated(&inputs, [&gate, &up], &Gather::new(indices.clone(), chosen));
        rows::products(&hidden, &down, &Gather::new(indices, 1))
    } else {
        let groups = routing::group(&indices, experts);
        let hidden = tiles::gated(&inputs, [&gate, &up], Some(&Groups { share: chosen, ..groups.clone() }));
        tiles::products(&hidden, &down, Some(&groups))
    };
    let shared = float(&super::gated_mlp(rows, x.clone(), &moe.shared_experts), DType::F32)?;
    Some(tensor(routing::combine(&shared, &routed, &factors)))
}

pub(super) fn append(projected: &[Tensor<3>; 3], cache: &mut LayerCache, places: &Places) -> Option<Tensor<3>> {
    let [queries, keys, values] = projected.each_ref().map(|x| float(x, DType::F32));
    let projected = [queries?, keys?, values?];
    let turns = [float(&places.rotation.cos, DType::F32)?, float(&places.rotation.sin, DType::F32)?];
    let table = int(places.table.as_ref()?)?;
    let _ = cache.pool()?;
    let mut turned = None;
    cache.write_pool(|pool| {
        let pool = pool.map(unique);
        turned = Some(attention::append(projected, turns, table, &pool));
        pool.map(tensor)
    });
    turned.map(tensor)
}

/// The tensor's buffer, copied if another tensor has it, too.
fn unique(tensor: Tensor<4>) -> CubeTensor {
    let tensor = tensor.try_into_primitive::<CubeBackend>().expect("a pool is on a GPU");
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

pub(super) fn decode_attention(queries: &Tensor<3>, cache: &LayerCache, places: &Places) -> Option<Tensor<3>> {
    let [keys, values] = cache.pool()?.map(|pool| float(pool, DType::F32));
    let (queries, table) = (float(queries, DType::F32)?, int(places.table.as_ref()?)?);
    attention::attend(&queries, [keys?, values?], &table, places.longest()).map(tensor)
}

/// The sum, if there is something to add, else `x`; and its norm.
pub(super) fn norm(x: &Tensor<2>, added: Option<&Tensor<2>>, norm: &RmsNorm) -> Option<[Tensor<2>; 2]> {
    let added = match added {
        Some(added) => Some(float(added, DType::F32)?),
        None => None,
    };
    let (x, gamma) = (float(x, DType::F32)?, float(&norm.gamma.val(), DType::F32)?);
    let rows = x.meta.shape()[0];
    (rows > 0).then(|| norm::norm(&x, added.as_ref(), &gamma, norm.epsilon).map(tensor))
}

pub(super) fn best(logits: &Tensor<2>, banned: &[Vec<u32>]) -> Option<Tensor<2>> {
    let ([rows, vocab], logits) = (logits.dims(), float(logits, DType::F32)?);
    if rows == 0 || vocab > MOST_TOKENS {
        return None;
    }
    let starts = banned.iter().scan(rows + 1, |start, banned| {
        *start += banned.len();
        Some(*start as i32)
    });
    let tokens = banned.iter().flatten().map(|&token| token as i32);
    let list: Vec<i32> = [rows as i32 + 1].into_iter().chain(starts).chain(tokens).collect();
    let bytes = list.iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<_>>();
    let (shape, buffer) = ([list.len()].into(), logits.client.create_from_slice(&bytes));
    let list = CubeTensor::new_contiguous(logits.client.clone(), logits.device.clone(), shape, buffer, DType::I32);
    Some(tensor(best::best(&logits, &list)))
}

/// The copy is in the device's queue before `work` begins.
pub(super) fn read_beside(numbers: &Tensor<2>, work: impl FnOnce()) -> Result<Vec<f32>, String> {
    let numbers = float(numbers, DType::F32).expect("what kernels wrote, in f32");
    let (shape, strides) = (numbers.meta.shape().clone(), numbers.meta.strides().clone());
    let copy = CopyDescriptor::new(numbers.handle.clone().binding(), shape.clone(), strides, DType::F32.size());
    let bytes = numbers.client.read_one_tensor_async(copy);
    work();
    let bytes = read_sync(bytes).map_err(|error| error.to_string())?;
    TensorData::from_bytes(bytes, shape, DType::F32).try_to_vec().map_err(|error| format!("{error:?}"))
}

/// `x W^T` for any number of rows.
fn product(x: &CubeTensor, weight: &CubeTensor) -> CubeTensor {
    match x.meta.shape()[0] > FEW_ROWS {
        false => rows::products(x, weight, &Gather::none(x)),
        true => tiles::products(x, weight, None),
    }
}

/// The matrix of a layer without bias that holds numbers.
fn matrix(layer: &StoredLinear) -> Option<CubeTensor> {
    match &layer.weight {
        LinearWeight::Stored(weight) if layer.bias.is_none() => weights(&weight.val()),
        _ => None,
    }
}
