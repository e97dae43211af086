//! The encoder's operations in plain tensor code: the specification, the fallback for any backend, the oracle of the tests.

use super::Activation;
use crate::{heads, rel_pos, window};
use burn::tensor::{Tensor, activation, module, ops::AttentionModuleOptions};

/// Scores that one product makes at most, in elements: 16 MiB of f32.
///
/// All scores of a page view of 1280 are 1.9 GB. Allocators return blocks of over 32 MB to the system at once, and then
/// every product pays for fresh pages again.
const SCORES_AT_ONCE: usize = 4 << 20;

/// The constant of the sigmoid approximation of GELU.
const QUICK_GELU_SLOPE: f64 = 1.702;

/// See [`rel_pos_attention`](super::rel_pos_attention).
pub fn window_attention(qkv: Tensor<4>, overhang: Tensor<1>, rel: [Tensor<2>; 2]) -> Tensor<4> {
    in_windows(qkv, overhang, rel, rel_pos_attention)
}

/// Cuts the grid into windows, lets `attend` work in each and puts them together again.
pub(super) fn in_windows(
    qkv: Tensor<4>,
    overhang: Tensor<1>,
    rel: [Tensor<2>; 2],
    attend: impl FnOnce(Tensor<4>, Tensor<4>, Tensor<4>, [Tensor<2>; 2]) -> Tensor<4>,
) -> Tensor<4> {
    let ([_, rows, columns, parts], head) = (qkv.dims(), rel[0].dims()[1]);
    let ([high, wide], width) = ([rel_pos::side(&rel[0]), rel_pos::side(&rel[1])], parts / 3);
    let windows = window::partition(qkv, [high, wide], overhang);
    let count = windows.dims()[0];
    let [q, k, v] = heads::split(windows.reshape([count, high * wide, parts]), width / head);
    let y = heads::merge(attend(q, k, v, rel));
    window::unpartition(y.reshape([count, high, wide, width]), [rows, columns])
}

/// Attention over a rectangle of tokens, with decomposed relative positions. Rows of queries are taken a few at a time.
///
/// # Shapes
/// - `q`, `k`, `v`, output: `[batch, heads, rows * columns, head]`
/// - `rel`: vertical and horizontal, `[2 * rows - 1, head]` and `[2 * columns - 1, head]`
fn rel_pos_attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, rel: [Tensor<2>; 2]) -> Tensor<4> {
    rel_pos_attention_in_parts([q, k, v], rel, SCORES_AT_ONCE)
}

/// See [`attention`](super::attention).
pub fn attention(qkv: Tensor<3>, heads: usize) -> Tensor<3> {
    let [q, k, v] = heads::split(qkv, heads);
    heads::merge(module::attention(q, k, v, None, None, AttentionModuleOptions::default()))
}

/// The activation alone.
pub fn activate<const D: usize>(activation: Activation, x: Tensor<D>) -> Tensor<D> {
    match activation {
        #[cfg(feature = "autodiff")]
        Activation::GeluErf => deepseek_ocr_core::ops::autodiff::gelu(x),
        #[cfg(not(feature = "autodiff"))]
        Activation::GeluErf => activation::gelu(x),
        Activation::QuickGelu => x.clone() * activation::sigmoid(x * QUICK_GELU_SLOPE),
    }
}

/// As many whole heads at a time as `scores` allow, or some rows of one head, at least one.
fn rel_pos_attention_in_parts(qkv: [Tensor<4>; 3], rel: [Tensor<2>; 2], scores: usize) -> Tensor<4> {
    let [batch, heads, tokens, head] = qkv[0].dims();
    let [rows, columns] = [rel_pos::side(&rel[0]), rel_pos::side(&rel[1])];
    assert_eq!(tokens, rows * columns, "tables for {rows} x {columns} with {tokens} tokens");
    let [q, k, v] = qkv.map(|x| x.reshape([batch * heads, tokens, head]));
    let q = q.reshape([batch * heads, rows, columns, head]);
    let [rel_h, rel_w] = rel.map(rel_pos::pairs);

    let rows_at_once = scores / (columns * tokens);
    let heads_per_part = (rows_at_once / rows).max(1);
    let rows_per_part = rows_at_once.clamp(1, rows);
    let rel_h = rel_h.split(rows_per_part, 0);
    let mut parts = Vec::new();
    for ((q, k), v) in
        q.split(heads_per_part, 0).into_iter().zip(k.split(heads_per_part, 0)).zip(v.split(heads_per_part, 0))
    {
        let rows = q.split(rows_per_part, 1).into_iter().zip(&rel_h);
        let rows = rows.map(|(q, rel_h)| attend_rows(q, [k.clone(), v.clone()], [rel_h.clone(), rel_w.clone()]));
        parts.push(Tensor::cat(rows.collect(), 1));
    }
    Tensor::cat(parts, 0).reshape([batch, heads, tokens, head])
}

/// Attention of some rows of queries to all keys.
///
/// # Shapes
/// - `q`: `[heads, rows, columns, head]`
/// - `kv`: keys and values, `[heads, all rows * columns, head]`
/// - `pairs`: `[rows, all rows, head]` for vertical offsets, `[columns, columns, head]` for horizontal ones
/// - output: `[heads, rows * columns, head]`
fn attend_rows(q: Tensor<4>, [k, v]: [Tensor<3>; 2], [rel_h, rel_w]: [Tensor<3>; 2]) -> Tensor<3> {
    let ([heads, rows, columns, head], all_rows) = (q.dims(), rel_h.dims()[1]);
    let (queries, tokens) = (rows * columns, all_rows * columns);
    // The scale is for the products with keys only: relative positions meet the unscaled query.
    let scaled = q.clone().reshape([heads, queries, head]) * (head as f64).powf(-0.5);
    let scores = scaled.matmul(k.transpose()).reshape([heads, queries, all_rows, columns]);
    let scores = scores + rel_pos::vertical(q.clone(), rel_h) + rel_pos::horizontal(q, rel_w);
    activation::softmax(scores.reshape([heads, queries, tokens]), 2).matmul(v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;
    use burn::tensor::Tolerance;

    const BATCH: usize = 2;
    const HEADS: usize = 3;
    const HEAD: usize = 8;

    fn inputs(side: usize) -> ([Tensor<4>; 3], [Tensor<2>; 2]) {
        let x = generated::tensor([3 * BATCH, HEADS, side * side, HEAD]);
        let tables = generated::tensor([2 * (2 * side - 1), HEAD]);
        let parts: [Tensor<4>; 3] = x.split(BATCH, 0).try_into().expect("three parts");
        let tables: [Tensor<2>; 2] = tables.split(2 * side - 1, 0).try_into().expect("two tables");
        (parts, tables)
    }

    /// The definition, one number at a time in f64.
    fn naive(qkv: &[Tensor<4>; 3], rel: &[Tensor<2>; 2], side: usize) -> Vec<f32> {
        let tokens = side * side;
        let [q, k, v] = qkv.each_ref().map(|x| x.to_data().try_to_vec::<f32>().expect("f32"));
        let [rel_h, rel_w] = rel.each_ref().map(|x| x.to_data().try_to_vec::<f32>().expect("f32"));
        let row = |x: &[f32], i: usize| x[i * HEAD..(i + 1) * HEAD].iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut out = Vec::new();
        for group in 0..BATCH * HEADS {
            for i in 0..tokens {
                let query = row(&q, group * tokens + i);
                let weights = (0..tokens).map(|j| {
                    let (down, across) = (i / side + side - 1 - j / side, i % side + side - 1 - j % side);
                    let score = dot(&query, &row(&k, group * tokens + j)) / (HEAD as f64).sqrt();
                    (score + dot(&query, &row(&rel_h, down)) + dot(&query, &row(&rel_w, across))).exp()
                });
                let weights: Vec<_> = weights.collect();
                let sum: f64 = weights.iter().sum();
                let column = |c| (0..tokens).map(move |j| (j, (group * tokens + j) * HEAD + c));
                out.extend(
                    (0..HEAD)
                        .map(|c| (column(c).map(|(j, at)| weights[j] * f64::from(v[at])).sum::<f64>() / sum) as f32),
                );
            }
        }
        out
    }

    #[test]
    fn relative_positions_follow_the_definition() {
        for side in [1, 2, 5] {
            let (qkv, rel) = inputs(side);
            let expected = naive(&qkv, &rel, side);
            let [q, k, v] = qkv;
            let actual = rel_pos_attention(q, k, v, rel).into_data().try_to_vec::<f32>().expect("f32");
            let worst = actual.iter().zip(&expected).fold(0f32, |worst, (a, e)| worst.max((a - e).abs()));
            assert!(actual.len() == expected.len() && worst < 1e-5, "side {side}: {worst}");
        }
    }

    #[test]
    fn parts_of_any_size_give_the_same() {
        let side = 5;
        let (qkv, rel) = inputs(side);
        let whole = rel_pos_attention_in_parts(qkv.clone(), rel.clone(), usize::MAX).into_data();
        let row = side * side * side;
        for scores in [1, row, 2 * row, 3 * row, side * row, 2 * side * row + 1, 4 * side * row] {
            let parts = rel_pos_attention_in_parts(qkv.clone(), rel.clone(), scores).into_data();
            parts.assert_approx_eq::<f32>(&whole, Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn activations_have_their_known_values() {
        let x = Tensor::<1>::from_data([-1f32, 0.0, 1.0, 3.0], (&Default::default(), burn::tensor::DType::F32));
        let gelu = [-0.158_655_25f32, 0.0, 0.841_344_8, 2.995_950_2];
        activate(Activation::GeluErf, x.clone())
            .into_data()
            .assert_approx_eq::<f32>(&gelu.into(), Tolerance::absolute(1e-6));
        let quick = [-1f32, 0.0, 1.0, 3.0].map(|x| x / (1.0 + (-1.702 * x).exp()));
        activate(Activation::QuickGelu, x)
            .into_data()
            .assert_approx_eq::<f32>(&quick.into(), Tolerance::absolute(1e-6));
    }
}
