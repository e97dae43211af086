//! From one wide projection to attention heads and back, for both towers.

use burn::tensor::Tensor;

/// Cuts queries, keys and values out of one projection.
///
/// # Shapes
/// - `qkv`: `[batch, tokens, 3 * width]`; queries, keys, values, each head after head
/// - output: three of `[batch, heads, tokens, width / heads]`
pub(crate) fn split(qkv: Tensor<3>, heads: usize) -> [Tensor<4>; 3] {
    let [batch, tokens, outputs] = qkv.dims();
    let head = outputs / (3 * heads);
    let qkv = qkv.reshape([batch, tokens, 3, heads, head]).permute([2, 0, 3, 1, 4]);
    std::array::from_fn(|part| qkv.clone().narrow(0, part, 1).squeeze_dim(0))
}

/// Lays heads side by side again.
///
/// # Shapes
/// - `x`: `[batch, heads, tokens, head]`
/// - output: `[batch, tokens, heads * head]`
pub(crate) fn merge(x: Tensor<4>) -> Tensor<3> {
    let [batch, heads, tokens, head] = x.dims();
    x.swap_dims(1, 2).reshape([batch, tokens, heads * head])
}
