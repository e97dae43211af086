//! Attention of tensors that autodiff tracks, with backward passes of its own: scores are made again there, not kept.

use super::reference;
use crate::{heads, rel_pos};
use burn::tensor::Tensor;
use deepseek_ocr_core::ops::autodiff::{self, Mask};

/// See [`reference::window_attention`].
pub(super) fn window_attention(qkv: Tensor<4>, overhang: Tensor<1>, rel: [Tensor<2>; 2]) -> Tensor<4> {
    reference::in_windows(qkv, overhang, rel, |q, k, v, rel| {
        let [batch, heads, tokens, head] = q.dims();
        let [rows, columns] = [rel_pos::side(&rel[0]), rel_pos::side(&rel[1])];
        let [q, k, v] = [q, k, v].map(|x| x.reshape([batch * heads, tokens, head]));
        let grid = q.clone().reshape([batch * heads, rows, columns, head]);
        let [rel_h, rel_w] = rel.map(rel_pos::pairs);
        let vertical = rel_pos::vertical(grid.clone(), rel_h).reshape([batch * heads, tokens, rows]);
        let horizontal = rel_pos::horizontal(grid, rel_w).reshape([batch * heads, tokens, columns]);
        let y = autodiff::grid_attention([q, k, v], [vertical, horizontal]);
        y.reshape([batch, heads, tokens, head])
    })
}

/// See [`reference::attention`].
pub(super) fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let qkv = heads::split(qkv, heads);
    let [batch, heads, tokens, head] = qkv[0].dims();
    let y = autodiff::attention(qkv.map(|x| x.reshape([batch * heads, tokens, head])), Mask::All);
    heads::merge(y.reshape([batch, heads, tokens, head]))
}
