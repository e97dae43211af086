//! One block: attention and a feed-forward layer, each behind a norm and around a residual.

use crate::{
    Choice, DecoderConfig, GatedMlp, LayerCache, Moe, Passage, Places, Rotation, SelfAttention,
    ops::{self, Rows},
};
use burn::{
    module::Module,
    nn::{RmsNorm, RmsNormConfig},
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::ops::Precision;

/// A block of the decoder.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Mixes positions.
    pub self_attn: SelfAttention,
    /// Before the feed-forward layer.
    pub post_attention_layernorm: RmsNorm,
    /// Works on each position.
    pub mlp: Mlp,
}

/// The feed-forward layer of a block.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model holds a dozen of them.
pub enum Mlp {
    /// One for all positions: the first blocks.
    Dense(GatedMlp),
    /// Experts, chosen for each position.
    Moe(Moe),
}

impl Block {
    pub(crate) fn new(config: &DecoderConfig, layer: usize, device: &Device) -> Self {
        let norm = || RmsNormConfig::new(config.hidden).with_epsilon(config.rms_eps).init(device);
        let mlp = if layer < config.dense_layers {
            Mlp::Dense(GatedMlp::new(config.hidden, config.dense_width, device))
        } else {
            Mlp::Moe(Moe::new(config, device))
        };
        let self_attn = SelfAttention::new(config, device);
        Self { input_layernorm: norm(), self_attn, post_attention_layernorm: norm(), mlp }
    }

    /// Appends positions to one row.
    ///
    /// # Shapes
    /// - `x`: `[length, hidden]`
    /// - output: `[passage.outputs, hidden]`
    pub fn prefill(&self, x: Tensor<2>, passage: &Passage, cache: &mut LayerCache) -> Tensor<2> {
        let y = self.mix(x.clone(), passage, cache);
        let [x, y] = ops::add_norm(passage.last(x), y, &self.post_attention_layernorm);
        x + self.mlp.forward(passage.rows(), y)
    }

    /// The first half of [`prefill`](Self::prefill): the residual stream between attention and feed-forward layer.
    ///
    /// # Shapes
    /// - `x`: `[length, hidden]`
    /// - output: `[passage.outputs, hidden]`
    pub fn attend(&self, x: Tensor<2>, passage: &Passage, cache: &mut LayerCache) -> Tensor<2> {
        passage.last(x.clone()) + self.mix(x, passage, cache)
    }

    fn mix(&self, x: Tensor<2>, passage: &Passage, cache: &mut LayerCache) -> Tensor<2> {
        self.self_attn.prefill(ops::norm(x, &self.input_layernorm), passage, cache)
    }

    /// Whole sequences of equal length, without a cache; and what the router of a mixture chose.
    ///
    /// # Shapes
    /// - `x`, output: `[batch, length, hidden]`
    pub fn forward(&self, x: Tensor<3>, rotation: &Rotation) -> (Tensor<3>, Option<Choice>) {
        let x = x.clone() + self.self_attn.forward(self.input_layernorm.forward(x), rotation);
        let [batch, length, hidden] = x.dims();
        let inputs = self.post_attention_layernorm.forward(x.clone()).reshape([batch * length, hidden]);
        let (y, choice) = match &self.mlp {
            Mlp::Dense(mlp) => (mlp.forward(Rows::Together(Precision::Exact), inputs), None),
            Mlp::Moe(moe) => {
                let (y, choice) = moe.forward_chosen(inputs);
                (y, Some(choice))
            }
        };
        (x + y.reshape([batch, length, hidden]), choice)
    }

    /// Appends one position to each of several rows.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden]`, one row for each of `places`
    /// - output: `[rows, hidden]`
    pub fn step(&self, x: Tensor<2>, cache: &mut LayerCache, places: &Places) -> Tensor<2> {
        let y = self.self_attn.step(ops::norm(x.clone(), &self.input_layernorm), cache, places);
        let [x, y] = ops::add_norm(x, y, &self.post_attention_layernorm);
        x + self.mlp.forward(Rows::Apart, y)
    }
}

impl Mlp {
    /// # Shapes
    /// - `x`: `[positions, hidden]`
    /// - output: `[positions, hidden]`
    pub fn forward(&self, rows: Rows, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Dense(mlp) => mlp.forward(rows, x),
            Self::Moe(moe) => moe.forward(rows, x),
        }
    }
}
