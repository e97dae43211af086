//! The decoder (paper section 3.3): a small transformer with mixtures of experts. Start here.

use crate::{
    Block, Cache, Choice, Passage, Rope, Segment,
    ops::{self, Rows},
};
use burn::{
    module::Module,
    nn::{RmsNorm, RmsNormConfig},
    tensor::{DType, Device, FloatDType, Int, Tensor, TensorData},
};
use deepseek_ocr_core::{Error, Names, Result, StoredLinear, StoredLinearConfig, TokenEmbedding, ops::Precision};

/// The decoder's dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Rows of the embedding table, and logits of a position.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; each has its own keys and values.
    pub heads: usize,
    /// Width of the feed-forward layer in dense blocks.
    pub dense_width: usize,
    /// How many of the first blocks are dense.
    pub dense_layers: usize,
    /// Routed experts of a block.
    pub experts: usize,
    /// Routed experts that a position goes through.
    pub experts_per_token: usize,
    /// Width of a routed expert.
    pub expert_width: usize,
    /// Width of all shared experts of a block together.
    pub shared_width: usize,
    /// Positions that the model was made for.
    pub context: usize,
    /// Added to the mean square in norms.
    pub rms_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
}

/// The language model.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Text tokens to vectors.
    pub embed_tokens: TokenEmbedding,
    /// The blocks, in order.
    pub layers: Vec<Block>,
    /// Before the head.
    pub norm: RmsNorm,
    /// Vectors to logits.
    pub lm_head: StoredLinear,
    rope: Rope,
    #[module(skip)]
    config: DecoderConfig,
    #[module(skip)]
    precision: Precision,
}

/// What [`Decoder::forward`] gives.
#[derive(Debug, Clone)]
pub struct Taught {
    /// `[batch, length, hidden]`: each block's output; the head reads the last.
    pub outputs: Vec<Tensor<3>>,
    /// How the routers of the mixtures decided, in the order of their blocks.
    pub choices: Vec<Choice>,
}

impl Taught {
    /// What the head reads: the last block's output.
    ///
    /// # Panics
    /// If the decoder has no block.
    pub fn last(&self) -> Tensor<3> {
        self.outputs.last().expect("a decoder has blocks").clone()
    }
}

impl DecoderConfig {
    /// A decoder with random weights, each drawn when it is first used: weights that a checkpoint replaces never are.
    pub fn init(&self, device: &Device) -> Decoder {
        assert!(self.hidden.is_multiple_of(self.heads), "{} heads cannot share {}", self.heads, self.hidden);
        Decoder {
            embed_tokens: TokenEmbedding::new(self.vocab, self.hidden, device),
            layers: (0..self.layers).map(|layer| Block::new(self, layer, device)).collect(),
            norm: RmsNormConfig::new(self.hidden).with_epsilon(self.rms_eps).init(device),
            lm_head: StoredLinearConfig::without_bias(self.hidden, self.vocab).init(device),
            rope: Rope::new(self.context, self.head_width(), self.rope_theta, device),
            config: self.clone(),
            precision: Precision::default(),
        }
    }

    /// Width of an attention head.
    pub fn head_width(&self) -> usize {
        self.hidden / self.heads
    }
}

impl Decoder {
    /// How this module's fields are called in the checkpoint.
    pub const NAMES: Names = Names(&[("lm_head.", "lm_head."), ("", "model.")]);

    /// Sets what [`prefill`](Self::prefill)'s products may round. The default is [`Precision::Exact`]; routers are exact always, and so
    /// is each [`step`](Self::step), which the memory's speed limits.
    ///
    /// [`Precision::Bf16`] rounds what enters a product to bf16 where weights are bf16 and the CPU multiplies pairs of them, and
    /// sums in f32.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The dimensions.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// How positions turn queries and keys.
    pub fn rope(&self) -> &Rope {
        &self.rope
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.embed_tokens.weight.lazy_device()
    }

    /// Turns a prompt into the decoder's inputs, one row per position.
    ///
    /// # Shapes
    /// - output: `[positions, hidden]`
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if there are no positions, or for a token id outside the vocabulary;
    /// [`Error::VisionTokensWidth`] for vision tokens of another model.
    pub fn embed(&self, segments: &[Segment]) -> Result<Tensor<2>> {
        let mut parts = Vec::with_capacity(segments.len());
        for segment in segments.iter().filter(|segment| !segment.is_empty()) {
            parts.push(match segment {
                Segment::Text(ids) => self.embed_text(ids)?,
                Segment::Vision(tokens) if tokens.width() == self.config.hidden => {
                    tokens.tensor().to_device(&self.device()).cast(FloatDType::F32)
                }
                Segment::Vision(tokens) => {
                    return Err(Error::VisionTokensWidth { found: tokens.width(), expected: self.config.hidden });
                }
            });
        }
        if parts.is_empty() {
            return Err(Error::invalid_request("prompt", "empty", "at least one token"));
        }
        Ok(Tensor::cat(parts, 0))
    }

    /// Appends positions to a row of the cache and gives the logits of the last one. A new row is empty; one that holds
    /// positions is continued.
    ///
    /// # Shapes
    /// - `inputs`: `[positions, hidden]`, at least one position
    /// - output: `[vocab]`, f32
    pub fn prefill(&self, inputs: Tensor<2>, cache: &mut Cache, row: usize) -> Tensor<1> {
        ops::pass(&self.device(), || {
            let x = self.read(inputs, 1, cache, row, |_| ());
            self.logits(x).squeeze_dim(0)
        })
    }

    /// Appends one token to each of the named rows of the cache, which may hold sequences of different length, and gives
    /// their logits. A row's result does not depend on the other rows.
    ///
    /// # Shapes
    /// - output: `[rows, vocab]`, f32, in the order of `rows`
    pub fn step(&self, tokens: &[u32], rows: &[usize], cache: &mut Cache) -> Tensor<2> {
        self.step_from(self.ids(tokens), rows, cache)
    }

    /// [`step`](Self::step) with tokens that are on the device.
    ///
    /// # Shapes
    /// - `tokens`: `[rows]`
    pub(crate) fn step_from(&self, tokens: Tensor<1, Int>, rows: &[usize], cache: &mut Cache) -> Tensor<2> {
        assert_eq!(tokens.dims(), [rows.len()], "one token for each row");
        ops::pass(&self.device(), || self.step_rows(tokens, rows, cache))
    }

    fn step_rows(&self, tokens: Tensor<1, Int>, rows: &[usize], cache: &mut Cache) -> Tensor<2> {
        let places = cache.places(rows, &self.rope);
        let mut x = self.embed_tokens.forward(tokens);
        for (layer, block) in self.layers.iter().enumerate() {
            x = block.step(x, cache.layer(layer), &places);
        }
        rows.iter().for_each(|&row| cache.advance(row, 1));
        self.logits(x)
    }

    /// Sequences of equal length at once, each input knowing the true ones before it: teacher forcing. Shorter sequences are filled
    /// up at their end, which no input before it sees. A sequence may be given in parts: `positions` says where in it each input
    /// stands.
    ///
    /// It keeps no cache, writes nothing in place and can be differentiated: see the feature `autodiff`.
    ///
    /// # Shapes
    /// - `inputs`: `[batch, length, hidden]`
    pub fn forward(&self, inputs: Tensor<3>, positions: &[usize]) -> Taught {
        assert_eq!(positions.len(), inputs.dims()[1], "a position for each input");
        let rotation = self.rope.at(positions);
        let (mut x, mut choices, mut outputs) = (inputs, Vec::new(), Vec::new());
        for block in &self.layers {
            let (output, choice) = block.forward(x, &rotation);
            x = output.clone();
            outputs.push(output);
            choices.extend(choice);
        }
        Taught { outputs, choices }
    }

    /// Norm and head for all positions together; see [`logits`](Self::logits).
    ///
    /// # Shapes
    /// - `x`: `[positions, hidden]`, the last block's output
    /// - output: `[positions, vocab]`, f32
    pub fn logits_together(&self, x: Tensor<2>) -> Tensor<2> {
        let [logits] = ops::linears(Rows::Together(Precision::Exact), self.norm.forward(x), [&self.lm_head]);
        logits
    }

    /// Every block's output over a whole sequence: what [`prefill`](Self::prefill) computes, kept for inspection.
    ///
    /// # Shapes
    /// - `inputs`: `[positions, hidden]`
    /// - output: `[positions, hidden]` for each block
    pub fn forward_all(&self, inputs: Tensor<2>) -> Vec<Tensor<2>> {
        let mut cache = Cache::new(&self.config, 1, inputs.dims()[0], &self.device());
        let mut outputs = Vec::with_capacity(self.layers.len());
        let length = inputs.dims()[0];
        self.read(inputs, length, &mut cache, 0, |x| outputs.push(x.clone()));
        outputs
    }

    /// The inputs of a block's feed-forward layer, given the block's inputs over a whole sequence: what its router scores.
    ///
    /// # Shapes
    /// - `x`: `[positions, hidden]`
    /// - output: `[positions, hidden]`
    pub fn mlp_inputs(&self, layer: usize, x: Tensor<2>) -> Tensor<2> {
        let (block, length) = (&self.layers[layer], x.dims()[0]);
        let mut cache = Cache::new(&self.config, 1, length, &self.device());
        cache.reserve(0, length);
        let place = cache.end(0);
        let passage =
            Passage { place, rotation: self.rope.sequence(0, length), outputs: length, precision: self.precision };
        let x = block.attend(x, &passage, cache.layer(layer));
        block.post_attention_layernorm.forward(x)
    }

    /// Norm and head, for each position alone.
    ///
    /// # Shapes
    /// - `x`: `[positions, hidden]`, the last block's output
    /// - output: `[positions, vocab]`, f32
    pub fn logits(&self, x: Tensor<2>) -> Tensor<2> {
        let [logits] = ops::linears(Rows::Apart, ops::norm(x, &self.norm), [&self.lm_head]);
        logits
    }

    /// The blocks over new positions of one row; `each` sees every block's output. The last block gives the last `outputs`
    /// positions only: what it would compute for the others, nothing reads.
    fn read(
        &self,
        inputs: Tensor<2>,
        outputs: usize,
        cache: &mut Cache,
        row: usize,
        mut each: impl FnMut(&Tensor<2>),
    ) -> Tensor<2> {
        let length = inputs.dims()[0];
        cache.reserve(row, length);
        let place = cache.end(row);
        let rotation = self.rope.sequence(place.position, length);
        let mut passage = Passage { place, rotation, outputs: length, precision: self.precision };
        let mut x = inputs;
        for (layer, block) in self.layers.iter().enumerate() {
            if layer + 1 == self.layers.len() {
                passage.outputs = outputs;
            }
            x = block.prefill(x, &passage, cache.layer(layer));
            each(&x);
        }
        cache.advance(row, length);
        x
    }

    fn embed_text(&self, ids: &[u32]) -> Result<Tensor<2>> {
        match ids.iter().find(|&&id| id as usize >= self.config.vocab) {
            Some(id) => Err(Error::invalid_request("token id", id, format!("below {}", self.config.vocab))),
            None => Ok(self.embed_tokens.forward(self.ids(ids))),
        }
    }

    fn ids(&self, ids: &[u32]) -> Tensor<1, Int> {
        let values: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
        Tensor::from_data(TensorData::new(values, [ids.len()]), (&self.device(), DType::I32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn embed(decoder: &Decoder, ids: &[u32]) -> Tensor<2> {
        decoder.embed(&[Segment::Text(ids.to_vec())]).unwrap()
    }

    #[test]
    fn a_step_equals_the_prefill_of_the_longer_prompt() {
        let decoder = fixture::decoder();
        let ids: Vec<u32> = (0..20).map(|i| (i * 11 + 5) % 37).collect();
        let mut cache = Cache::new(decoder.config(), 2, 30, &decoder.device());
        decoder.prefill(embed(&decoder, &ids[..3]), &mut cache, 1);
        for end in 4..=ids.len() {
            let stepped = decoder.step(&ids[end - 1..end], &[1], &mut cache);
            let mut fresh = Cache::new(decoder.config(), 1, end, &decoder.device());
            let whole = decoder.prefill(embed(&decoder, &ids[..end]), &mut fresh, 0);
            fixture::assert_close(&fixture::floats(stepped), &fixture::floats(whole), 1e-5);
            assert_eq!((cache.length(0), cache.length(1)), (0, end));
        }
    }

    #[test]
    fn a_prompt_may_be_read_in_parts_and_a_row_continued_from_a_prefix() {
        let decoder = fixture::decoder();
        let ids: Vec<u32> = (0..20).map(|i| (i * 5 + 2) % 37).collect();
        let mut cache = Cache::new(decoder.config(), 1, 48, &decoder.device());
        let whole = fixture::floats(decoder.prefill(embed(&decoder, &ids), &mut cache, 0));
        cache.truncate(0, 8);
        decoder.prefill(embed(&decoder, &ids[8..13]), &mut cache, 0);
        let parts = fixture::floats(decoder.prefill(embed(&decoder, &ids[13..]), &mut cache, 0));
        fixture::assert_close(&parts, &whole, 1e-5);
        assert_eq!(cache.length(0), 20);
    }

    #[test]
    fn prefill_gives_the_last_logits_of_all_outputs() {
        let decoder = fixture::decoder();
        let inputs = embed(&decoder, &[1, 30, 2, 8]);
        let mut cache = Cache::new(decoder.config(), 1, 4, &decoder.device());
        let last = decoder.prefill(inputs.clone(), &mut cache, 0);
        let all = decoder.forward_all(inputs);
        assert_eq!(all.len(), decoder.config().layers);
        let logits = decoder.logits(all[all.len() - 1].clone());
        assert_eq!(logits.dims(), [4, decoder.config().vocab]);
        fixture::assert_close(&fixture::floats(last), &fixture::floats(logits)[3 * 37..], 1e-6);
    }

    #[test]
    fn whole_sequences_give_what_a_prefill_gives() {
        let decoder = fixture::decoder();
        let rows = [[1, 30, 2, 8, 5], [9, 9, 36, 0, 4]];
        let inputs: Vec<_> = rows.iter().map(|ids| embed(&decoder, ids)).collect();
        let taught = decoder.forward(Tensor::stack(inputs.clone(), 0), &[0, 1, 2, 3, 4]);
        assert_eq!(taught.choices.len(), 2);
        assert_eq!((taught.choices[0].probabilities.dims(), taught.choices[0].indices.dims()), ([10, 4], [10, 2]));
        for (row, inputs) in inputs.into_iter().enumerate() {
            let all = decoder.forward_all(inputs);
            let expected = fixture::floats(all[all.len() - 1].clone());
            let taught: Tensor<2> = taught.last().narrow(0, row, 1).squeeze_dim(0);
            fixture::assert_close(&fixture::floats(taught.clone()), &expected, 1e-5);
            let logits = fixture::floats(decoder.logits_together(taught.clone()));
            fixture::assert_close(&logits, &fixture::floats(decoder.logits(taught)), 1e-5);
        }
    }

    #[test]
    fn only_the_distance_of_positions_counts() {
        let decoder = fixture::decoder();
        let inputs: Tensor<3> = embed(&decoder, &[1, 30, 2, 8]).unsqueeze();
        let taught = |positions: [usize; 4]| fixture::floats(decoder.forward(inputs.clone(), &positions).last());
        let whole = taught([0, 1, 2, 3]);
        fixture::assert_close(&taught([5, 6, 7, 8]), &whole, 1e-4);
        let apart = taught([0, 1, 9, 10]);
        let hidden = decoder.config().hidden;
        fixture::assert_close(&apart[..2 * hidden], &whole[..2 * hidden], 1e-6);
        let change = apart[2 * hidden..].iter().zip(&whole[2 * hidden..]).map(|(a, b)| (a - b).abs());
        assert!(change.fold(0.0, f32::max) > 1e-3);
    }

    #[test]
    fn lower_precision_is_near() {
        let decoder = fixture::decoder();
        let read = |decoder: &Decoder| {
            let mut cache = Cache::new(decoder.config(), 1, 30, &decoder.device());
            fixture::floats(decoder.prefill(embed(decoder, &(0..30).collect::<Vec<_>>()), &mut cache, 0))
        };
        let exact = read(&decoder);
        fixture::assert_close(&read(&decoder.with_precision(Precision::Bf16)), &exact, 0.05);
    }

    #[test]
    fn names_are_those_of_the_checkpoint() {
        let names = |path| Decoder::NAMES.tensor_name(path);
        assert_eq!(names("lm_head.weight"), "lm_head.weight");
        assert_eq!(names("layers.1.mlp.gate.weight"), "model.layers.1.mlp.gate.weight");
    }

    #[test]
    fn parameters_are_not_drawn_before_they_are_used() {
        let decoder = fixture::config().init(&Device::flex());
        assert!(!decoder.lm_head.weight.is_initialized());
        assert!(!decoder.layers[2].self_attn.q_proj.weight.is_initialized());
    }
}
