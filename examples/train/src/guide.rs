//! Guided attention: where heads of the decoder should look.

use crate::{
    batch::{Batch, Totals},
    heads::{Judged, asked_for, cross_entropy, ints, nothing},
    pages::COLUMNS,
};
use burn::tensor::Tensor;
use deepseek_ocr_core::StoredLinear;
use deepseek_ocr_decoder::{Block, Decoder, Taught};

/// The first half of the heads of all blocks but the first should prefer, among the page's tokens, the one with the character that
/// is asked for. How much they look at the page at all, and at what else, is theirs to learn. Nothing where a token's characters do
/// not follow each other.
///
/// `positions` are those of the decoder's inputs.
pub(crate) fn of_looks(
    decoder: &Decoder,
    taught: &Taught,
    positions: &[usize],
    batch: &Batch,
    totals: Totals,
) -> Judged {
    let mut all = nothing(&decoder.device());
    let (Some(cells), guided) = (batch.block, decoder.layers.iter().skip(1)) else { return all };
    let heads = (decoder.config().heads / 2).max(1);
    let share = 1.0 / (guided.len() * heads).max(1) as f32;
    let blocks = batch.rows * COLUMNS;
    let class = |at: &usize| (at / cells).min(blocks - 1) as i32;
    let classes: Vec<i32> =
        batch.asked.iter().map(class).cycle().take(batch.pages * heads * batch.asked.len()).collect();
    // The end stands behind the last block.
    let there = |(&at, counted): (&usize, bool)| counted && at / cells < blocks;
    let there: Vec<bool> = batch.asked.iter().cycle().zip(batch.counted()).map(there).collect();
    let counted: Vec<bool> = there.chunks(batch.asked.len()).flat_map(|page| page.repeat(heads)).collect();
    for (block, before) in guided.zip(&taught.outputs) {
        let scores = scores(decoder, block, before.clone(), positions, batch);
        let (loss, right) = cross_entropy(scores, &classes, &counted, totals.tokens);
        all = (all.0 + loss * share, all.1 + right * share);
    }
    all
}

/// What the first half of a block's heads make of each of the page's tokens.
///
/// # Shapes
/// - `x`: `[pages, positions, hidden]`, the block's input
/// - output: `[pages * heads / 2 * asked, tokens]`
fn scores(decoder: &Decoder, block: &Block, x: Tensor<3>, positions: &[usize], batch: &Batch) -> Tensor<2> {
    let (pages, asked, width) = (batch.pages, batch.asked.len(), decoder.config().head_width());
    let heads = (decoder.config().heads / 2).max(1);
    let x = block.input_layernorm.forward(x);
    // The sequence begins with one token, each of the page's lines ends with one.
    let on_page: Vec<usize> = (0..batch.rows * COLUMNS).map(|token| 1 + token + token / COLUMNS).collect();
    let chosen = ints(on_page.iter().map(|&at| at as i32).collect(), &x.device());
    let [_, _, hidden] = x.dims();
    let tokens = x.clone().select(1, chosen).reshape([pages * on_page.len(), hidden]);
    let turned = |matrix: &StoredLinear, x: Tensor<2>, at: &[usize]| {
        let y = matrix.forward(x).narrow(1, 0, heads * width);
        let y = y.reshape([pages, at.len(), heads, width]).swap_dims(1, 2).reshape([pages * heads, at.len(), width]);
        decoder.rope().at(at).forward(y)
    };
    let queries = turned(&block.self_attn.q_proj, asked_for(x, batch), &positions[positions.len() - asked..]);
    let keys = turned(&block.self_attn.k_proj, tokens, &on_page);
    let scores = queries.matmul(keys.swap_dims(1, 2)) * (1.0 / (width as f32).sqrt());
    scores.reshape([pages * heads * asked, on_page.len()])
}
