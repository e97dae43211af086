//! The decoder's heavy operations. Model files never name a backend: each function here picks an implementation.

#[cfg(feature = "_cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
pub mod reference;

use crate::{GatedMlp, LayerCache, Moe, Places, Rotation, Routing};
use burn::{
    nn::RmsNorm,
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{StoredLinear, ops::Precision};

/// What the rows of a product are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rows {
    /// Positions of one sequence, multiplied in whatever way is fastest for their number at this precision.
    Together(Precision),
    /// Sequences of a batch: what each row gives does not depend, to the last bit, on the rows that stand beside it.
    Apart,
}

/// The norm of each row.
///
/// # Shapes
/// - `x`: `[rows, hidden]`, f32
/// - output: `[rows, hidden]`, f32
pub fn norm(x: Tensor<2>, norm: &RmsNorm) -> Tensor<2> {
    #[cfg(feature = "_cube")]
    if let Some([_, y]) = cube::norm(&x, None, norm) {
        return y;
    }
    norm.forward(x)
}

/// `x + added`, and its norm.
///
/// # Shapes
/// - `x`, `added`: `[rows, hidden]`, f32
/// - output: `[rows, hidden]`, f32, twice
pub fn add_norm(x: Tensor<2>, added: Tensor<2>, norm: &RmsNorm) -> [Tensor<2>; 2] {
    #[cfg(feature = "_cube")]
    if let Some(both) = cube::norm(&x, Some(&added), norm) {
        return both;
    }
    let sum = x + added;
    [sum.clone(), norm.forward(sum)]
}

/// Several layers over the same rows.
///
/// # Shapes
/// - `x`: `[rows, inputs]`, f32
/// - output: `[rows, outputs]` for each layer, f32
pub fn linears<const N: usize>(rows: Rows, x: Tensor<2>, layers: [&StoredLinear; N]) -> [Tensor<2>; N] {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::linears(rows, &x, layers) {
        return y;
    }
    #[cfg(feature = "_cube")]
    if let Some(y) = cube::linears(rows, &x, layers) {
        return y;
    }
    reference::linears(rows, x, layers)
}

/// `x W^T` over weights in f32: the experts' scores.
///
/// # Shapes
/// - `x`: `[rows, inputs]`, f32
/// - `weight`: `[outputs, inputs]`, f32
/// - output: `[rows, outputs]`, f32
pub fn scores(rows: Rows, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::scores(rows, &x, &weight) {
        return y;
    }
    #[cfg(feature = "_cube")]
    if let Some(y) = cube::scores(&x, &weight) {
        return y;
    }
    reference::scores(rows, x, weight)
}

/// The experts with the highest scores and their probabilities among all.
///
/// # Shapes
/// - `scores`: `[positions, experts]`, f32
/// - output: `[positions, chosen]`, best first
pub fn choose(scores: Tensor<2>, chosen: usize) -> Routing {
    #[cfg(feature = "_cube")]
    if let Some(routing) = cube::choose(&scores, chosen) {
        return routing;
    }
    reference::choose(scores, chosen)
}

/// `down(silu(gate(x)) * up(x))`.
///
/// # Shapes
/// - `x`: `[rows, hidden]`, f32
/// - output: `[rows, hidden]`, f32
pub fn gated_mlp(rows: Rows, x: Tensor<2>, mlp: &GatedMlp) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::gated_mlp(rows, &x, mlp) {
        return y;
    }
    #[cfg(feature = "_cube")]
    if let Some(y) = cube::gated_mlp(rows, &x, mlp) {
        return y;
    }
    reference::gated_mlp(rows, x, mlp)
}

/// The experts of a mixture: each position's sum over the routed experts that were chosen for it, weighted, and the shared
/// ones.
///
/// # Shapes
/// - `x`: `[positions, hidden]`, f32
/// - `routing`: `[positions, chosen]`, the experts of each position, no two alike, and their weights in f32
/// - output: `[positions, hidden]`, f32
pub fn expert_mlp(rows: Rows, x: Tensor<2>, routing: Routing, moe: &Moe) -> Tensor<2> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::expert_mlp(rows, &x, &routing, moe) {
        return y;
    }
    #[cfg(feature = "_cube")]
    if let Some(y) = cube::expert_mlp(rows, &x, &routing, moe) {
        return y;
    }
    reference::expert_mlp(rows, x, routing, moe)
}

/// Turns the halves of each vector into each other: component `i` with component `i + width / 2`.
///
/// # Shapes
/// - `x`: `[heads, length, width]` or `[rows, heads, width]`, as the rotation was made for
/// - output: as `x`
pub fn rotate(x: Tensor<3>, rotation: &Rotation) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::rotate(&x, rotation) {
        return y;
    }
    reference::rotate(x, rotation)
}

/// Attention of the last positions of one sequence, each over itself and all before it.
///
/// # Shapes
/// - `queries`: `[heads, length, width]`, the last `length` positions
/// - `keys`, `values`: `[heads, total, width]`, all positions
/// - output: `[heads, length, width]`
pub fn causal_attention(queries: Tensor<3>, keys: Tensor<3>, values: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::causal_attention(&queries, &keys, &values) {
        return y;
    }
    #[cfg(feature = "autodiff")]
    if queries.is_autodiff() && queries.dims() == keys.dims() {
        use deepseek_ocr_core::ops::autodiff::{Mask, attention};
        return attention([queries, keys, values], Mask::Causal);
    }
    reference::causal_attention(queries, keys, values)
}

/// Writes one position's keys and values to each of several rows of a cache, turned to their places, and turns the queries.
///
/// # Shapes
/// - `queries`, `keys`, `values`: `[rows, heads, width]`, one for each of `places`
/// - output: `[rows, heads, width]`, the queries
pub fn append(projected: [Tensor<3>; 3], cache: &mut LayerCache, places: &Places) -> Tensor<3> {
    #[cfg(feature = "_cube")]
    if let Some(y) = cube::append(&projected, cache, places) {
        return y;
    }
    reference::append(projected, cache, places)
}

/// Attention of one position in each of several rows of a cache, over itself and all before it in its row.
///
/// A row's result does not depend on the other rows, nor on which blocks hold it.
///
/// # Shapes
/// - `queries`: `[rows, heads, width]`, one for each of `places`, whose positions are written
/// - output: `[rows, heads, width]`
pub fn decode_attention(queries: Tensor<3>, cache: &LayerCache, places: &Places) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::decode_attention(&queries, cache, &places.ends) {
        return y;
    }
    #[cfg(feature = "_cube")]
    if let Some(y) = cube::decode_attention(&queries, cache, places) {
        return y;
    }
    reference::decode_attention(queries, cache, &places.ends)
}

/// Chooses the best token of each row that is not banned where the logits are; nothing where the host reads them as easily.
///
/// # Shapes
/// - `logits`: `[rows, vocab]`, f32
/// - `banned`: of each row
/// - output: `[rows, 2]`, f32: what [`Choice::of_kernel`](crate::sampling::Choice::of_kernel) takes
#[cfg(feature = "_cube")]
pub(crate) fn best(logits: &Tensor<2>, banned: &[Vec<u32>]) -> Option<Tensor<2>> {
    cube::best(logits, banned)
}

/// Reads what a kernel wrote, and does `work` between starting the copy and waiting for it: what `work` starts on the device does not
/// hold the copy up.
///
/// `Tensor::into_data` would not do: it copies when the numbers are looked at, behind all that was started until then.
#[cfg(feature = "_cube")]
pub(crate) fn read_beside(numbers: &Tensor<2>, work: impl FnOnce()) -> Result<Vec<f32>, String> {
    cube::read_beside(numbers, work)
}

/// Whether work on the device goes on while the host does something else.
pub(crate) fn computes_beside_the_host(device: &Device) -> bool {
    takes_stacks(device)
}

/// Whether the device has kernels that find a block of the cache in one tensor of all.
pub(crate) fn takes_pools(device: &Device) -> bool {
    takes_stacks(device)
}

/// Whether the device has kernels that find an expert in a stack.
pub(crate) fn takes_stacks(device: &Device) -> bool {
    #[cfg(feature = "_cube")]
    return deepseek_ocr_core::ops::cube::is_gpu(device);
    #[cfg(not(feature = "_cube"))]
    {
        let _ = device;
        false
    }
}

/// Runs a pass through the model where its operations start with the least delay.
///
/// On the CPU that is a thread of the pool: threads outside of it sleep and are woken for each operation.
pub fn pass<R: Send>(device: &Device, f: impl FnOnce() -> R + Send) -> R {
    #[cfg(feature = "flex")]
    if *device == Device::flex() {
        return flex::pass(f);
    }
    let _ = device;
    f()
}
