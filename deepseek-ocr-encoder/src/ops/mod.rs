//! The encoder's operations. Model files never name a backend: each function here picks an implementation.

#[cfg(feature = "_cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
pub mod reference;
#[cfg(feature = "autodiff")]
mod tracked;

use burn::{
    module::Param,
    tensor::{DType, Tensor},
};
use deepseek_ocr_core::{
    StoredLinear,
    ops::{Precision, linear_with},
};

/// What lies between the two layers of an MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x * (1 + erf(x / sqrt(2))) / 2`, SAM's.
    GeluErf,
    /// `x * sigmoid(1.702 x)`, CLIP's.
    QuickGelu,
}

/// Scaled dot-product attention within windows of a grid, with decomposed relative positions:
/// `softmax(q k^T / sqrt(head) + q . rel_h[row offset] + q . rel_w[column offset]) v`.
///
/// Windows have the height and the width that the tables are for, from the top left. Where they overhang the grid at the right and
/// the bottom, zeros take the place of the missing tokens' `x`. Tables for the whole grid make it one window.
///
/// # Shapes
/// - `x`: `[views, rows, columns, heads * head]`
/// - `qkv`: from `x` to queries, keys and values, each head after head
/// - `rel_h`, `rel_w`: `[2 * side - 1, head]`; row `query - key + side - 1` belongs to that offset
/// - output: `[views, rows, columns, heads * head]`
pub fn rel_pos_attention(
    precision: Precision,
    x: Tensor<4>,
    qkv: &StoredLinear,
    [rel_h, rel_w]: [Tensor<2>; 2],
) -> Tensor<4> {
    // The kernels' windows are squares.
    let is_square = rel_h.dims() == rel_w.dims();
    #[cfg(feature = "flex")]
    if let Some(y) = is_square.then(|| flex::rel_pos_attention(precision, &x, qkv, [&rel_h, &rel_w])).flatten() {
        return y;
    }
    let overhang = match &qkv.bias {
        Some(bias) => bias.val(),
        None => Tensor::zeros([3 * x.dims()[3]], (&x.device(), DType::F32)),
    };
    let qkv = linear(precision, qkv, x);
    #[cfg(feature = "_cube")]
    if let Some(y) = is_square.then(|| cube::rel_pos_attention(&qkv, &overhang, [&rel_h, &rel_w])).flatten() {
        return y;
    }
    #[cfg(feature = "autodiff")]
    if qkv.is_autodiff() {
        return tracked::window_attention(qkv, overhang, [rel_h, rel_w]);
    }
    let _ = is_square;
    reference::window_attention(qkv, overhang, [rel_h, rel_w])
}

/// Scaled dot-product attention: `softmax(q k^T / sqrt(head)) v`.
///
/// # Shapes
/// - `qkv`: `[views, tokens, 3 * heads * head]`; queries, keys, values, each head after head
/// - output: `[views, tokens, heads * head]`
pub fn attention(precision: Precision, qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::attention(precision, &qkv, heads) {
        return y;
    }
    #[cfg(feature = "autodiff")]
    if qkv.is_autodiff() {
        return tracked::attention(qkv, heads);
    }
    let _ = precision;
    reference::attention(qkv, heads)
}

/// `layer` with its products at this precision.
///
/// # Shapes
/// - `x`: `[.., inputs]`
/// - output: `[.., outputs]`
pub fn linear<const D: usize>(precision: Precision, layer: &StoredLinear, x: Tensor<D>) -> Tensor<D> {
    let mut shape = x.dims();
    let weight = layer.weight.val();
    let [outputs, inputs] = weight.dims();
    let rows = shape[..D - 1].iter().product();
    let y = linear_with(precision, x.reshape([rows, inputs]), weight, layer.bias.as_ref().map(Param::val));
    shape[D - 1] = outputs;
    y.reshape(shape)
}

/// `down(activation(up(x)))`.
///
/// # Shapes
/// - `x`: `[.., inputs of up]`
/// - output: `[.., outputs of down]`
pub fn mlp<const D: usize>(
    precision: Precision,
    [up, down]: [&StoredLinear; 2],
    activation: Activation,
    x: Tensor<D>,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = flex::mlp(precision, [up, down], activation, &x) {
        return y;
    }
    linear(precision, down, reference::activate(activation, linear(precision, up, x)))
}
