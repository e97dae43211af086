//! The encoder's operations. Model files never name a backend: each function here picks an implementation.

pub mod reference;

use burn::tensor::Tensor;

/// Scaled dot-product attention over a square of tokens, with decomposed relative positions:
/// `softmax(q k^T / sqrt(head) + q . rel_h[row offset] + q . rel_w[column offset]) v`.
///
/// # Shapes
/// - `q`, `k`, `v`: `[batch, heads, side * side, head]`, tokens row by row; any strides
/// - `rel_h`, `rel_w`: `[2 * side - 1, head]`; row `query - key + side - 1` belongs to that offset
/// - output: as `q`
pub fn rel_pos_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, rel_h: Tensor<2>, rel_w: Tensor<2>) -> Tensor<4> {
    reference::rel_pos_attention(q, k, v, rel_h, rel_w)
}

/// Scaled dot-product attention: `softmax(q k^T / sqrt(head)) v`.
///
/// # Shapes
/// - `q`, `k`, `v`, output: `[batch, heads, tokens, head]`; any strides
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    reference::attention(q, k, v)
}

/// `x * (1 + erf(x / sqrt(2))) / 2`, SAM's activation.
///
/// # Shapes
/// - `x`, output: any
pub fn gelu_erf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    reference::gelu_erf(x)
}

/// `x * sigmoid(1.702 x)`, CLIP's activation.
///
/// # Shapes
/// - `x`, output: any
pub fn quick_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    reference::quick_gelu(x)
}
