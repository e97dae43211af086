//! Guided attention: where heads of the decoder should look.

use crate::{
    batch::{Batch, Totals},
    heads::{Judged, asked_for, cross_entropy, ints, nothing},
    pages::COLUMNS,
};
use burn::tensor::{Tensor, TensorData};
use deepseek_ocr_core::StoredLinear;
use deepseek_ocr_decoder::{Block, Decoder, Taught};

/// About so many of a text's inputs stand for all of them.
const DISTRACTORS: usize = 96;

/// What a block's first heads should look at.
#[derive(Clone, Copy)]
struct Guide {
    heads: usize,
    /// Whether they share the characters of a token among them: a head to whose share the next one does not belong looks at the first
    /// position, where nothing stands.
    shared: bool,
}

/// Heads should look at the token with the character that is asked for. In the last block all heads share the characters of a token
/// among them, so that what they bring is little enough to choose from; in those between it and the first, half of them look at the
/// whole token.
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
    let (Some(stood), heads) = (batch.stood(), decoder.config().heads) else { return all };
    let share = 1.0 / (decoder.layers.len() - 1).max(1) as f32;
    // The end may stand below the page.
    let there = |(&at, counted): (&usize, bool)| counted && at / batch.grid < batch.rows * COLUMNS;
    let there: Vec<bool> = stood.iter().zip(batch.counted()).map(there).collect();
    for (index, block) in decoder.layers.iter().enumerate().skip(1) {
        let shared = index + 1 == decoder.layers.len();
        let guide = Guide { heads: if shared { heads } else { heads.div_ceil(2) }, shared };
        let classes: Vec<i32> = stood.chunks(batch.asked.len()).flat_map(|page| guide.classes(page, batch)).collect();
        let counted: Vec<bool> = there.chunks(batch.asked.len()).flat_map(|page| page.repeat(guide.heads)).collect();
        let scores = guide.scores(decoder, block, taught.outputs[index - 1].clone(), positions, batch);
        let (loss, right) = cross_entropy(scores, &classes, &counted, totals.tokens * guide.heads);
        all = (all.0 + loss * share, all.1 + right * share);
    }
    all
}

impl Guide {
    /// `[heads, asked]`: the positions to look at for what stands in these cells of a page.
    fn classes(self, stood: &[usize], batch: &Batch) -> Vec<i32> {
        let cells = batch.grid;
        let class = |head: usize, at: usize| match self.shared && at % cells * self.heads / cells != head {
            true => 0,
            // The sequence begins with one token, each of the page's lines ends with one.
            false => (1 + at / cells + at / cells / COLUMNS).min(batch.rows * (COLUMNS + 1)) as i32,
        };
        (0..self.heads).flat_map(|head| stood.iter().map(move |&at| class(head, at))).collect()
    }

    /// What heads make of all that is in front of the text, and of some of the text's inputs, which count for all of them.
    ///
    /// # Shapes
    /// - `x`: `[pages, positions, hidden]`, the block's input
    /// - output: `[pages * heads * asked, keys]`
    fn scores(self, decoder: &Decoder, block: &Block, x: Tensor<3>, positions: &[usize], batch: &Batch) -> Tensor<2> {
        let (pages, heads, asked, width) = (batch.pages, self.heads, batch.asked.len(), decoder.config().head_width());
        let x = block.input_layernorm.forward(x);
        let before = positions.len() - batch.known().count();
        let stride = (positions.len() - before).div_ceil(DISTRACTORS).max(1);
        let seen: Vec<usize> = (0..before).chain((before..positions.len()).step_by(stride)).collect();
        let counts = [vec![0.0; before], vec![(stride as f32).ln(); seen.len() - before]].concat();
        let counts: Tensor<3> = Tensor::from_data(TensorData::new(counts, [1, 1, seen.len()]), &x.device());
        let chosen = ints(seen.iter().map(|&at| at as i32).collect(), &x.device());
        let keys = x.clone().select(1, chosen).reshape([pages * seen.len(), decoder.config().hidden]);
        let turned = |matrix: &StoredLinear, x: Tensor<2>, at: &[usize]| {
            let y = matrix.forward(x).narrow(1, 0, heads * width).reshape([pages, at.len(), heads, width]);
            decoder.rope().at(at).forward(y.swap_dims(1, 2).reshape([pages * heads, at.len(), width]))
        };
        let queries = turned(&block.self_attn.q_proj, asked_for(x, batch), &positions[positions.len() - asked..]);
        let at: Vec<usize> = seen.iter().map(|&input| positions[input]).collect();
        let keys = turned(&block.self_attn.k_proj, keys, &at);
        let scores = queries.matmul(keys.swap_dims(1, 2)) * (1.0 / (width as f32).sqrt()) + counts;
        scores.reshape([pages * heads * asked, seen.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_look_at_the_token_of_the_next_character_and_at_nothing_for_other_shares() {
        let batch = Batch {
            pages: 1,
            rows: 2,
            at: [0, 0],
            pixels: Vec::new(),
            prompt: Vec::new(),
            texts: vec![(0..97).collect()],
            asked: vec![0, 5, 6, 48, 95],
            stands: vec![(0..97).collect()],
            cells: Vec::new(),
            all_cells: 96,
            grid: 6,
            in_blocks: true,
        };
        let stood = batch.stood().unwrap();
        // The first token is at position 1, and after eight of them a line ends.
        let places = [1, 1, 2, 10, 17];
        assert_eq!(Guide { heads: 2, shared: false }.classes(&stood, &batch), [places, places].concat());
        // Cells 0, 1 of a token are the first head's, 2 and 3 the second's.
        let shared = Guide { heads: 3, shared: true }.classes(&stood, &batch);
        assert_eq!(shared, [[1, 0, 2, 10, 0], [0; 5], [0, 1, 0, 0, 17]].concat());
        assert_eq!(batch.shares(3)[..6], [(0, true), (1, true), (4, true), (5, true), (6, true), (7, true)]);
    }
}
