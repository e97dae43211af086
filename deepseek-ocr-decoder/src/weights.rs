//! In how many bits the decoder keeps its matrices.

use crate::{Block, Decoder, Experts, GatedMlp, Mlp, Moe, SelfAttention, ops};
use deepseek_ocr_core::Weights;

impl Decoder {
    /// The decoder with its matrices in this format: those of attention, feed-forward layers, experts and head. Norms, routers and the
    /// embedding stay as they are, and so do matrices that are in blocks already or consist of no whole ones.
    ///
    /// Weights that are not there yet stay so: a checkpoint fills them in this format.
    ///
    /// # Panics
    /// If weights that are there are not finite.
    pub fn with_weights(mut self, weights: Weights) -> Self {
        self.layers = self.layers.into_iter().map(|block| block.with_weights(weights)).collect();
        self.lm_head = self.lm_head.with_weights(weights);
        self
    }

    /// The decoder as its device computes best: on a GPU each layer's experts become one tensor of a kind, so that the device finds
    /// a position's experts without asking the host. They must be there; a layer at a time, the device holds them twice.
    pub fn settled(mut self) -> Self {
        self.layers = self.layers.into_iter().map(Block::settled).collect();
        self
    }
}

impl Block {
    fn with_weights(self, weights: Weights) -> Self {
        let mlp = match self.mlp {
            Mlp::Dense(mlp) => Mlp::Dense(mlp.with_weights(weights)),
            Mlp::Moe(moe) => Mlp::Moe(moe.with_weights(weights)),
        };
        Self { self_attn: self.self_attn.with_weights(weights), mlp, ..self }
    }

    fn settled(self) -> Self {
        let mlp = match self.mlp {
            Mlp::Moe(moe) if ops::takes_stacks(&moe.gate.weight.lazy_device()) => {
                Mlp::Moe(Moe { experts: moe.experts.stack(), ..moe })
            }
            mlp => mlp,
        };
        Self { mlp, ..self }
    }
}

impl SelfAttention {
    fn with_weights(mut self, weights: Weights) -> Self {
        self.q_proj = self.q_proj.with_weights(weights);
        self.k_proj = self.k_proj.with_weights(weights);
        self.v_proj = self.v_proj.with_weights(weights);
        self.o_proj = self.o_proj.with_weights(weights);
        self
    }
}

impl Moe {
    fn with_weights(self, weights: Weights) -> Self {
        Self {
            experts: self.experts.with_weights(weights),
            shared_experts: self.shared_experts.with_weights(weights),
            ..self
        }
    }
}

impl Experts {
    fn with_weights(self, weights: Weights) -> Self {
        match self {
            Self::Each(experts) => Self::Each(experts.into_iter().map(|expert| expert.with_weights(weights)).collect()),
            stacked => stacked,
        }
    }
}

impl GatedMlp {
    fn with_weights(self, weights: Weights) -> Self {
        Self {
            gate_proj: self.gate_proj.with_weights(weights),
            up_proj: self.up_proj.with_weights(weights),
            down_proj: self.down_proj.with_weights(weights),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cache, DecoderConfig, Segment, fixture};
    use burn::{module::Module, tensor::Device};
    use deepseek_ocr_core::LinearWeight;

    fn config() -> DecoderConfig {
        let widths =
            DecoderConfig { hidden: 64, dense_width: 96, expert_width: 32, shared_width: 64, ..fixture::config() };
        DecoderConfig { vocab: 48, ..widths }
    }

    /// Cosine of the logits after a prompt, against those with floats.
    fn cosine(weights: Weights) -> f64 {
        let run = |decoder: &Decoder| -> Vec<f32> {
            let mut cache = Cache::new(decoder.config(), 1, 9, &decoder.device());
            let inputs = decoder.embed(&[Segment::Text((0..9).collect())]).unwrap();
            fixture::floats(decoder.prefill(inputs, &mut cache, 0))
        };
        let decoder = fixture::fill(config().init(&Device::flex()));
        let (a, b) = (run(&decoder), run(&decoder.clone().with_weights(weights)));
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt()
    }

    #[test]
    fn logits_keep_their_direction() {
        assert!(cosine(Weights::Stored) == 1.0);
        // Few and narrow layers with even weights; seen: 0.9998 and 0.97.
        let (q8, q4) = (cosine(Weights::Q8), cosine(Weights::Q4));
        assert!(q8 > 0.999 && q4 > 0.95 && q8 > q4, "{q8} {q4}");
    }

    #[test]
    fn nothing_is_drawn_and_the_rest_stays() {
        let decoder = config().init(&Device::flex()).with_weights(Weights::Q4);
        assert!(!decoder.lm_head.weight.is_initialized());
        let Mlp::Moe(moe) = &decoder.layers[1].mlp else { panic!("the second block has experts") };
        assert!(matches!(moe.experts.get(3).down_proj.weight, LinearWeight::Blocks(_)));
        assert!(!moe.gate.weight.is_initialized());
        // 12 words of levels for 96 of numbers.
        assert!(decoder.num_params() < config().init(&Device::flex()).num_params());
    }
}
