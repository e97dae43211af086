//! The decoder's heavy operations. Model files never name a backend: each function here picks an implementation.

pub mod reference;

use crate::{GatedMlp, Place};
use burn::tensor::{Int, Tensor};

/// The routed experts of a mixture: each position's sum over its chosen experts, weighted.
///
/// # Shapes
/// - `x`: `[positions, hidden]`, f32
/// - `indices`: `[positions, chosen]`, the experts of each position, no two alike
/// - `weights`: `[positions, chosen]`, f32
/// - output: `[positions, hidden]`, f32
pub fn expert_mlp(x: Tensor<2>, indices: Tensor<2, Int>, weights: Tensor<2>, experts: &[GatedMlp]) -> Tensor<2> {
    reference::expert_mlp(x, indices, weights, experts)
}

/// Attention of the last positions of one sequence, each over itself and all before it.
///
/// # Shapes
/// - `queries`: `[heads, length, width]`, the last `length` positions
/// - `keys`, `values`: `[heads, total, width]`, all positions
/// - output: `[heads, length, width]`
pub fn causal_attention(queries: Tensor<3>, keys: Tensor<3>, values: Tensor<3>) -> Tensor<3> {
    reference::causal_attention(queries, keys, values)
}

/// Attention of one position in each of several rows of a cache, over itself and all before it in its row.
///
/// A row's result does not depend on the other rows.
///
/// # Shapes
/// - `queries`: `[rows, heads, width]`, one for each of `places`
/// - `keys`, `values`: `[cache rows, heads, allocated, width]`
/// - output: `[rows, heads, width]`
pub fn decode_attention(queries: Tensor<3>, keys: Tensor<4>, values: Tensor<4>, places: &[Place]) -> Tensor<3> {
    reference::decode_attention(queries, keys, values, places)
}

/// Applies `f` so that the result of a row does not depend, to the last bit, on which rows stand beside it.
///
/// A product of several rows may add up in another order than a product of one. Where an implementation promises one
/// order for all, it can take the rows together.
///
/// # Shapes
/// - `x`: `[rows, inputs]`
/// - `f`: `[1, inputs]` to `[1, outputs]`
/// - output: `[rows, outputs]`
pub fn row_by_row(x: Tensor<2>, f: impl Fn(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    reference::row_by_row(x, f)
}
