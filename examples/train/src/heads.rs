//! Heads that only training has: what they ask for is what the stages in front of them come to hold.

use crate::batch::{Batch, CLASSES, Totals};
use burn::{
    module::Module,
    tensor::{DType, Device, Int, Tensor, TensorData, activation},
};
use deepseek_ocr_core::{StoredLinear, StoredLinearConfig, ops::autodiff::gelu};
use deepseek_ocr_decoder::{Decoder, Taught};

/// Width of what the auxiliary heads make of each character.
const CHARACTER: usize = 24;

/// SAM's patches of a token.
const PATCHES: usize = 16;

/// A loss over the count of all parts of a batch, and how often the likeliest class was the right one.
pub(crate) type Judged = (Tensor<1>, f32);

/// Reads characters out of patches, tokens and the decoder's states, and where it is out of those of its first blocks.
#[derive(Module, Debug)]
pub(crate) struct Heads {
    patches: StoredLinear,
    tokens: StoredLinear,
    classes: StoredLinear,
    /// Which block of the page, and which character of it.
    places: Vec<[StoredLinear; 2]>,
    shares: StoredLinear,
    letters: StoredLinear,
}

impl Heads {
    /// Heads over SAM's patches of this width and over a decoder, for pages of so many `blocks` of so many `cells`.
    pub(crate) fn new(width: usize, decoder: &Decoder, [blocks, cells]: [usize; 2]) -> Self {
        let (device, config) = (&decoder.device(), decoder.config());
        let linear = |inputs, outputs| StoredLinearConfig::new(inputs, outputs).init(device);
        let hidden = config.hidden;
        Self {
            patches: linear(PATCHES * width, cells * CHARACTER),
            tokens: linear(hidden, cells * CHARACTER),
            classes: linear(CHARACTER, CLASSES),
            // The end stands behind the last block.
            places: (1..config.layers).map(|_| [linear(hidden, blocks + 1), linear(hidden, cells)]).collect(),
            shares: linear(hidden, cells.div_ceil(config.heads) * CHARACTER),
            letters: linear(CHARACTER, config.vocab),
        }
    }

    /// Each character from the patches of its token.
    ///
    /// # Shapes
    /// - `patches`: `[pages, 4 * rows, 4 * columns, width]`
    pub(crate) fn of_patches(&self, patches: Tensor<4>, batch: &Batch, totals: Totals) -> Judged {
        let [pages, high, wide, width] = patches.dims();
        let (rows, columns) = (high / 4, wide / 4);
        let patches = patches.reshape([pages, rows, 4, columns, 4, width]).swap_dims(2, 3);
        self.characters(&self.patches, patches.reshape([pages * rows * columns, PATCHES * width]), batch, totals)
    }

    /// Each character from its token.
    ///
    /// # Shapes
    /// - `tokens`: `[pages, rows, columns, hidden]`
    pub(crate) fn of_tokens(&self, tokens: Tensor<4>, batch: &Batch, totals: Totals) -> Judged {
        let [pages, rows, columns, hidden] = tokens.dims();
        self.characters(&self.tokens, tokens.reshape([pages * rows * columns, hidden]), batch, totals)
    }

    /// Cross entropy of the characters that a head finds; nothing where the batch asks for none.
    fn characters(&self, head: &StoredLinear, x: Tensor<2>, batch: &Batch, totals: Totals) -> Judged {
        if batch.cells.is_empty() {
            return nothing(&x.device());
        }
        let found = head.forward(x);
        let [tokens, outputs] = found.dims();
        let cells = tokens * outputs / CHARACTER;
        let chosen = ints(batch.cells.iter().map(|(cell, _)| *cell as i32).collect(), &found.device());
        let found = found.reshape([cells, CHARACTER]).select(0, chosen);
        let logits = self.classes.forward(gelu(found));
        let classes: Vec<i32> = batch.cells.iter().map(|(_, class)| i32::from(*class)).collect();
        cross_entropy(logits, &classes, &vec![true; classes.len()], totals.cells)
    }

    /// Where the next character stands, from the outputs of all of the decoder's blocks but the last: the block of the page and the
    /// place in it.
    pub(crate) fn of_places(&self, taught: &Taught, batch: &Batch, totals: Totals) -> Judged {
        let Some(stood) = batch.stood() else { return nothing(&taught.last().device()) };
        let counted: Vec<bool> = batch.counted().collect();
        let classes = [|at, cells| at / cells, |at, cells| at % cells].map(|part: fn(usize, usize) -> usize| {
            stood.iter().map(|&at| part(at, batch.grid) as i32).collect::<Vec<_>>()
        });
        let mut all = nothing(&taught.last().device());
        let share = 1.0 / (2 * self.places.len()).max(1) as f32;
        for (heads, output) in self.places.iter().zip(&taught.outputs) {
            let states = asked_for(output.clone(), batch);
            for (head, classes) in heads.iter().zip(&classes) {
                let (loss, right) = cross_entropy(head.forward(states.clone()), classes, &counted, totals.tokens);
                all = (all.0 + loss * share, all.1 + right * share);
            }
        }
        all
    }

    /// All characters of the next one's share of its token, in their order, from the decoder's normed last states: as many shares as
    /// there are attention heads. Nothing where a token's characters do not follow each other.
    ///
    /// # Shapes
    /// - `states`: `[pages * asked, hidden]`
    pub(crate) fn of_shares(&self, states: Tensor<2>, heads: usize, batch: &Batch, totals: Totals) -> Judged {
        let (classes, known): (Vec<i32>, Vec<bool>) = batch.shares(heads).into_iter().unzip();
        if classes.is_empty() {
            return nothing(&states.device());
        }
        let found = gelu(self.shares.forward(states).reshape([classes.len(), CHARACTER]));
        cross_entropy(self.letters.forward(found), &classes, &known, totals.tokens * batch.grid / heads)
    }
}

/// The states that the tokens which are asked for are read from.
///
/// # Shapes
/// - `states`: `[pages, positions, hidden]`
/// - output: `[pages * asked, hidden]`
pub(crate) fn asked_for(states: Tensor<3>, batch: &Batch) -> Tensor<2> {
    let ([pages, positions, hidden], length) = (states.dims(), batch.asked.len());
    states.narrow(1, positions - length, length).reshape([pages * length, hidden])
}

/// The loss and the accuracy of what is not asked for.
pub(crate) fn nothing(device: &Device) -> Judged {
    (Tensor::zeros([1], (device, DType::F32)), 0.0)
}

/// The cross entropy of the rows that count over `count`, and how many have the right class as their likeliest, also over it.
///
/// # Shapes
/// - `logits`: `[rows, classes]`
pub(crate) fn cross_entropy(logits: Tensor<2>, classes: &[i32], counted: &[bool], count: usize) -> Judged {
    let (rows, count, device) = (classes.len(), count.max(1), logits.device());
    let likeliest = logits.clone().inner().argmax(1).into_data().convert_dtype(DType::I32);
    let likeliest = likeliest.iter::<i32>().zip(classes).zip(counted);
    let right = likeliest.filter(|((found, class), counted)| **counted && found == *class).count();
    let shares: Vec<f32> = counted.iter().map(|&counted| if counted { -1.0 / count as f32 } else { 0.0 }).collect();
    let shares: Tensor<2> = Tensor::from_data(TensorData::new(shares, [rows, 1]), (&device, DType::F32));
    let found = activation::log_softmax(logits, 1).gather(1, ints(classes.to_vec(), &device).reshape([rows, 1]));
    ((found * shares).sum(), right as f32 / count as f32)
}

pub(crate) fn ints(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), (device, DType::I32))
}
