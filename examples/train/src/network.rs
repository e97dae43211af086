//! The model while it is trained: the stages that run inference, and heads that only training has.

use crate::{
    batch::{Batch, CLASSES, Totals},
    lora::Adapters,
    pages::{COLUMNS, TOKEN},
    recipe::Weights,
};
use burn::{
    module::Module,
    tensor::{DType, Device, FloatDType, Int, Tensor, TensorData, activation},
};
use deepseek_ocr_core::{Names, Parameters, StoredLinear, StoredLinearConfig};
use deepseek_ocr_decoder::{Choice, Decoder};
use deepseek_ocr_encoder::Encoder;

/// Width of what the auxiliary heads make of each character.
const CHARACTER: usize = 24;

/// SAM's patches of a token.
const PATCHES: usize = 16;

/// Encoder, decoder, what is added to its matrices, and auxiliary heads.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub encoder: Encoder,
    pub decoder: Decoder,
    pub adapters: Adapters,
    heads: Heads,
    /// The id of the token in front of everything.
    bos: u32,
}

/// Reads the characters of a token out of its patches and out of the token, so that both learn to hold them.
#[derive(Module, Debug)]
struct Heads {
    patches: StoredLinear,
    tokens: StoredLinear,
    classes: StoredLinear,
}

/// What a batch gives.
pub(crate) struct Outcome {
    /// What is to become less.
    pub loss: Tensor<1>,
    pub text: Part,
    pub patches: Part,
    pub tokens: Part,
}

/// A cross entropy and how often the likeliest class was the right one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Part {
    pub loss: f32,
    pub accuracy: f32,
}

impl Network {
    /// The names of the auxiliary heads' parameters begin so.
    pub(crate) const AUXILIARY: &str = "auxiliary.";
    const HEADS: Names = Names(&[("", Self::AUXILIARY)]);

    /// A network of these stages, with all parameters in f32.
    pub(crate) fn new((encoder, decoder): (Encoder, Decoder), density: [u32; 2], bos: u32) -> Self {
        let device = decoder.device();
        let cells = density.iter().product::<u32>() as usize;
        let width = encoder.sam.pos_embed.lazy_shape()[3];
        let heads = Heads {
            patches: StoredLinearConfig::new(PATCHES * width, cells * CHARACTER).init(&device),
            tokens: StoredLinearConfig::new(decoder.config().hidden, cells * CHARACTER).init(&device),
            classes: StoredLinearConfig::new(CHARACTER, CLASSES).init(&device),
        };
        Self { encoder, decoder, adapters: Adapters::default(), heads, bos }.map(&mut Widen)
    }

    /// The network on another device.
    pub(crate) fn on(self, device: &Device) -> Self {
        Self {
            encoder: self.encoder.to_device(device),
            decoder: self.decoder.to_device(device),
            adapters: self.adapters.on(device),
            heads: self.heads.to_device(device),
            bos: self.bos,
        }
    }

    /// Replaces each parameter; names are the checkpoint's.
    pub(crate) fn map(self, parameters: &mut impl Parameters) -> Self {
        Self {
            encoder: Encoder::NAMES.map(self.encoder, parameters),
            decoder: Decoder::NAMES.map(self.decoder, parameters),
            adapters: self.adapters.map(parameters),
            heads: Self::HEADS.map(self.heads, parameters),
            bos: self.bos,
        }
    }

    /// Replaces each parameter that the state of a run holds: all, or, beside adapters, what the checkpoint does not have.
    pub(crate) fn map_state(self, parameters: &mut impl Parameters) -> Self {
        if self.adapters.is_empty() {
            return self.map(parameters);
        }
        let (adapters, heads) = (self.adapters.map(parameters), Self::HEADS.map(self.heads, parameters));
        Self { adapters, heads, ..self }
    }

    /// The network with its adapters in the decoder's matrices.
    pub(crate) fn merged(self) -> Self {
        Self { decoder: self.adapters.merged(self.decoder), adapters: Adapters::default(), ..self }
    }

    /// The share that a part of a batch has in the losses of the whole.
    pub(crate) fn forward(&self, batch: &Batch, totals: Totals, weights: Weights) -> Outcome {
        let patches = self.encoder.sam.patches_of_part(pixels(batch, &self.decoder.device()), batch.at);
        let tokens = self.encoder.join_part(patches.clone(), batch.at);
        let of_patches = self.characters(&self.heads.patches, gathered(patches), batch, totals);
        let [pages, rows, columns, hidden] = tokens.dims();
        let of_tokens = tokens.clone().reshape([pages * rows * columns, hidden]);
        let of_tokens = self.characters(&self.heads.tokens, of_tokens, batch, totals);
        let (of_text, choices) = match batch.length {
            0 => (nothing(&tokens.device()), Vec::new()),
            _ => self.text(&self.adapters.merged(self.decoder.clone()), tokens, batch, totals),
        };
        let mut loss = of_text.0.clone();
        loss = loss + of_patches.0.clone() * weights.patches + of_tokens.0.clone() * weights.tokens;
        let share = weights.balance * batch.pages as f32 / totals.pages as f32;
        for choice in choices {
            loss = loss + unevenness(choice) * share;
        }
        Outcome { loss, text: part(of_text), patches: part(of_patches), tokens: part(of_tokens) }
    }

    /// Cross entropy of the text, and what the routers chose.
    fn text(
        &self,
        decoder: &Decoder,
        tokens: Tensor<4>,
        batch: &Batch,
        totals: Totals,
    ) -> ((Tensor<1>, f32), Vec<Choice>) {
        let vision = self.encoder.layout.forward_pages(tokens);
        let [pages, seen, hidden] = vision.dims();
        let shared = |ids: &[u32]| {
            let rows = self.embed(ids).reshape([1, ids.len(), hidden]);
            rows.expand([pages, ids.len(), hidden])
        };
        let mut parts = vec![shared(&[self.bos]), vision];
        if !batch.prompt.is_empty() {
            parts.push(shared(&batch.prompt));
        }
        // The last token is only asked for.
        let known = batch.lead() + batch.length - 1;
        if known > 0 {
            let ids: Vec<u32> = batch.rows().flat_map(|row| row[..known].iter().copied()).collect();
            parts.push(self.embed(&ids).reshape([pages, known, hidden]));
        }
        let before = 1 + seen + batch.prompt.len();
        let text = before + batch.from - batch.lead();
        let positions: Vec<usize> = (0..before).chain(text..text + known).collect();
        let taught = decoder.forward(Tensor::cat(parts, 1), &positions);
        let first = positions.len() - batch.length;
        let outputs = taught.outputs.narrow(1, first, batch.length).reshape([pages * batch.length, hidden]);
        let logits = decoder.logits_together(outputs);
        let classes: Vec<i32> = batch.rows().flat_map(|row| row[batch.lead()..].iter().map(|&id| id as i32)).collect();
        let counted = batch.lengths.iter().flat_map(|&length| (0..batch.length).map(move |at| at < length));
        (cross_entropy(logits, &classes, &counted.collect::<Vec<_>>(), totals.tokens), taught.choices)
    }

    fn embed(&self, ids: &[u32]) -> Tensor<2> {
        let values: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        self.decoder.embed_tokens.forward(ints(values, &self.decoder.device()))
    }

    /// Cross entropy of the characters that a head finds; nothing where the batch asks for none.
    fn characters(&self, head: &StoredLinear, x: Tensor<2>, batch: &Batch, totals: Totals) -> (Tensor<1>, f32) {
        if batch.cells.is_empty() {
            return nothing(&x.device());
        }
        let found = head.forward(x);
        let [tokens, outputs] = found.dims();
        let cells = tokens * outputs / CHARACTER;
        let chosen = ints(batch.cells.iter().map(|(cell, _)| *cell as i32).collect(), &found.device());
        let found = found.reshape([cells, CHARACTER]).select(0, chosen);
        let logits = self.heads.classes.forward(activation::gelu(found));
        let classes: Vec<i32> = batch.cells.iter().map(|(_, class)| i32::from(*class)).collect();
        cross_entropy(logits, &classes, &vec![true; classes.len()], totals.cells)
    }
}

/// The loss and the accuracy of what is not asked for.
fn nothing(device: &Device) -> (Tensor<1>, f32) {
    (Tensor::zeros([1], (device, DType::F32)), 0.0)
}

fn pixels(batch: &Batch, device: &Device) -> Tensor<4> {
    let shape = [batch.pages, 1, batch.rows * TOKEN, COLUMNS * TOKEN];
    let grey: Tensor<4> = Tensor::from_data(TensorData::new(batch.pixels.clone(), shape), (device, DType::F32));
    grey.expand([shape[0], 3, shape[2], shape[3]])
}

/// SAM's patches, those of a token side by side.
///
/// # Shapes
/// - `patches`: `[pages, 4 * rows, 4 * columns, width]`
/// - output: `[pages * rows * columns, 16 * width]`
fn gathered(patches: Tensor<4>) -> Tensor<2> {
    let [pages, high, wide, width] = patches.dims();
    let (rows, columns) = (high / 4, wide / 4);
    let patches = patches.reshape([pages, rows, 4, columns, 4, width]).swap_dims(2, 3);
    patches.reshape([pages * rows * columns, PATCHES * width])
}

/// The cross entropy of the rows that count over `count`, and how many have the right class as their likeliest, also over it.
///
/// # Shapes
/// - `logits`: `[rows, classes]`
pub(crate) fn cross_entropy(logits: Tensor<2>, classes: &[i32], counted: &[bool], count: usize) -> (Tensor<1>, f32) {
    let (rows, count, device) = (classes.len(), count.max(1), logits.device());
    let likeliest = logits.clone().inner().argmax(1).into_data().convert_dtype(DType::I32);
    let likeliest = likeliest.iter::<i32>().zip(classes).zip(counted);
    let right = likeliest.filter(|((found, class), counted)| **counted && found == *class).count();
    let shares: Vec<f32> = counted.iter().map(|&counted| if counted { -1.0 / count as f32 } else { 0.0 }).collect();
    let shares: Tensor<2> = Tensor::from_data(TensorData::new(shares, [rows, 1]), (&device, DType::F32));
    let found = activation::log_softmax(logits, 1).gather(1, ints(classes.to_vec(), &device).reshape([rows, 1]));
    ((found * shares).sum(), right as f32 / count as f32)
}

/// One if every expert is used alike, more if not: the share of positions that each gets times its mean probability.
pub(crate) fn unevenness(choice: Choice) -> Tensor<1> {
    let [positions, experts] = choice.probabilities.dims();
    let chosen = choice.indices.into_data().convert_dtype(DType::I32);
    let mut shares = vec![0.0; experts];
    let each = experts as f32 / chosen.num_elements() as f32;
    chosen.iter::<i32>().for_each(|expert| shares[expert as usize] += each);
    let shares: Tensor<2> =
        Tensor::from_data(TensorData::new(shares, [1, experts]), (&choice.probabilities.device(), DType::F32));
    (choice.probabilities * shares).sum() / positions as f32
}

fn part((loss, accuracy): (Tensor<1>, f32)) -> Part {
    Part { loss: loss.inner().into_scalar::<f32>(), accuracy }
}

fn ints(values: Vec<i32>, device: &Device) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), (device, DType::I32))
}

/// Makes parameters f32.
struct Widen;

impl Parameters for Widen {
    fn parameter<const D: usize>(&mut self, _name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
    }
}

/// Lets autodiff track the parameters that are trained.
pub(crate) struct Track<'a> {
    /// How their names begin.
    pub among: &'a str,
    /// Patterns of those that are not, for all that.
    pub frozen: &'a [String],
}

impl Parameters for Track<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        let frozen = !name.starts_with(self.among) || self.frozen.iter().any(|pattern| fits(pattern, name));
        if frozen { tensor.autodiff() } else { tensor.autodiff().require_grad() }
    }
}

/// Whether a name fits a pattern, in which `*` stands for anything; a pattern without one is a beginning.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_beginnings_or_have_stars() {
        assert!(fits("model.layers.1", "model.layers.1.mlp.gate.weight") && !fits("layers", "model.layers.1"));
        assert!(
            fits("*.mlp.*weight", "model.layers.1.mlp.gate.weight")
                && !fits("*.mlp.*bias", "model.layers.1.mlp.gate.weight")
        );
        assert!(fits("*", "lm_head.weight") && !fits("*_head", "lm_head.weight"));
    }
}
