//! LoRA (Hu et al. 2021): a matrix `W` of the decoder counts as `W + alpha / rank * B A`, and only `A` and `B` are trained.
//!
//! What is computed with is made for each step by a mapper over the decoder's parameters, so its modules know nothing of it.

use crate::{parameters::fits, random::Random, recipe::Lora};
use anyhow::{Result, ensure};
use burn::tensor::{DType, Device, Tensor, TensorData};
use deepseek_ocr_core::Parameters;
use deepseek_ocr_decoder::Decoder;
use std::collections::BTreeMap;

/// The decoder's one matrix that is no linear layer.
const EMBEDDING: &str = "embed_tokens";

/// Keeps what is drawn here apart from what batches are drawn from.
const DRAWN: u64 = 0x6c6f_7261;

/// Changes of low rank to matrices of the decoder; by default none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Adapters {
    /// What `B A` is multiplied by.
    scale: f32,
    /// By the names of their matrices.
    adapters: BTreeMap<String, Adapter>,
}

/// A change of `[outputs, inputs]`.
#[derive(Debug, Clone)]
struct Adapter {
    /// `[rank, inputs]`.
    a: Tensor<2>,
    /// `[outputs, rank]`.
    b: Tensor<2>,
}

impl Adapters {
    /// The names of adapters' parameters begin so; the matrix' name follows, then `.a` or `.b`.
    pub(crate) const PREFIX: &str = "lora.";

    /// Adapters that change nothing yet, as the paper begins (section 4.1): `A` from a normal distribution, `B` zero.
    pub(crate) fn new(lora: &Lora, decoder: &Decoder, seed: u64) -> Result<Self> {
        let mut linears = Linears(BTreeMap::new());
        Decoder::NAMES.map(decoder.clone(), &mut linears);
        for pattern in &lora.matrices {
            let any = linears.0.keys().any(|name| fits(pattern, name));
            ensure!(any, "lora: no linear layer of the decoder fits {pattern:?}");
        }
        let chosen = linears.0.into_iter().filter(|(name, _)| lora.matrices.iter().any(|pattern| fits(pattern, name)));
        let adapter = |(place, (name, (size, device))): (usize, (String, _))| {
            (name, Adapter::new(size, lora.rank, &device, &mut Random::new(seed ^ DRAWN, place as u64)))
        };
        Ok(Self { scale: lora.alpha / lora.rank as f32, adapters: chosen.enumerate().map(adapter).collect() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.adapters.is_empty()
    }

    /// The adapters on another device.
    pub(crate) fn on(mut self, device: &Device) -> Self {
        for Adapter { a, b } in self.adapters.values_mut() {
            (*a, *b) = (a.clone().to_device(device), b.clone().to_device(device));
        }
        self
    }

    /// Replaces each parameter.
    pub(crate) fn map(self, parameters: &mut impl Parameters) -> Self {
        let mut map = |(name, Adapter { a, b }): (String, Adapter)| {
            let a = parameters.parameter(&format!("{}{name}.a", Self::PREFIX), a);
            let b = parameters.parameter(&format!("{}{name}.b", Self::PREFIX), b);
            (name, Adapter { a, b })
        };
        Self { scale: self.scale, adapters: self.adapters.into_iter().map(&mut map).collect() }
    }

    /// The decoder with all changes in its matrices. Slopes reach the adapters through it.
    pub(crate) fn merged(&self, decoder: Decoder) -> Decoder {
        if self.is_empty() { decoder } else { Decoder::NAMES.map(decoder, &mut Merge(self)) }
    }
}

impl Adapter {
    fn new([outputs, inputs]: [usize; 2], rank: usize, device: &Device, random: &mut Random) -> Self {
        let deviation = (inputs as f64).powf(-0.5);
        let values: Vec<f32> = (0..rank * inputs).map(|_| (random.normal() * deviation) as f32).collect();
        Self {
            a: Tensor::from_data(TensorData::new(values, [rank, inputs]), (device, DType::F32)),
            b: Tensor::zeros([outputs, rank], (device, DType::F32)),
        }
    }
}

/// Finds the linear layers' matrices: their sizes and where they are.
struct Linears(BTreeMap<String, ([usize; 2], Device)>);

impl Parameters for Linears {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if let (&[outputs, inputs], false) = (&tensor.dims()[..], name.contains(EMBEDDING)) {
            self.0.insert(name.to_owned(), ([outputs, inputs], tensor.device()));
        }
        tensor
    }
}

struct Merge<'a>(&'a Adapters);

impl Parameters for Merge<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        match self.0.adapters.get(name) {
            Some(Adapter { a, b }) => {
                let change: Tensor<D> = (b.clone() * self.0.scale).matmul(a.clone()).reshape(tensor.shape());
                tensor + change
            }
            None => tensor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradients::{Fill, decoder as config};
    use burn::tensor::activation;
    use deepseek_ocr_decoder::{GatedMlp, Mlp, Rope, Rotation, ops};

    const LENGTH: usize = 7;

    fn filled() -> Decoder {
        Decoder::NAMES.map(config().init(&Device::flex()), &mut Fill { random: Random::new(8, 0) })
    }

    fn adapters(matrices: &[&str]) -> Result<Adapters> {
        let matrices = matrices.iter().map(|&pattern| pattern.to_owned()).collect();
        Adapters::new(&Lora { matrices, rank: 3, alpha: 1.5 }, &filled(), 1)
    }

    fn inputs() -> Tensor<2> {
        let mut random = Random::new(9, 0);
        let values: Vec<f32> = (0..LENGTH * config().hidden).map(|_| random.normal() as f32).collect();
        Tensor::from_data(TensorData::new(values, [LENGTH, config().hidden]), (&Device::flex(), DType::F32))
    }

    fn logits(decoder: &Decoder) -> Vec<f32> {
        let x = inputs();
        let [length, hidden] = x.dims();
        let outputs = decoder.forward(x.reshape([1, length, hidden]), &Vec::from_iter(0..length)).last();
        decoder.logits_together(outputs.reshape([length, hidden])).into_data().iter::<f32>().collect()
    }

    /// The largest difference, over the largest number.
    fn difference(a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        worst / a.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()))
    }

    /// The decoder written anew, each linear layer as `W x + scale * B (A x)`.
    struct Apart<'a> {
        decoder: &'a Decoder,
        adapters: &'a Adapters,
    }

    impl Apart<'_> {
        fn linear(&self, name: &str, weight: Tensor<2>, x: &Tensor<2>) -> Tensor<2> {
            let y = x.clone().matmul(weight.transpose());
            match self.adapters.adapters.get(&format!("{name}.weight")) {
                Some(Adapter { a, b }) => {
                    let change = x.clone().matmul(a.clone().transpose()).matmul(b.clone().transpose());
                    y + change * self.adapters.scale
                }
                None => y,
            }
        }

        fn mlp(&self, name: &str, mlp: &GatedMlp, x: &Tensor<2>) -> Tensor<2> {
            let gate = self.linear(&format!("{name}.gate_proj"), mlp.gate_proj.weight.val(), x);
            let up = self.linear(&format!("{name}.up_proj"), mlp.up_proj.weight.val(), x);
            self.linear(&format!("{name}.down_proj"), mlp.down_proj.weight.val(), &(activation::silu(gate) * up))
        }

        fn attention(&self, layer: usize, x: &Tensor<2>, rotation: &Rotation) -> Tensor<2> {
            let (attention, heads) = (&self.decoder.layers[layer].self_attn, config().heads);
            let name = |part| format!("model.layers.{layer}.self_attn.{part}");
            let [q, k, v] =
                [("q_proj", &attention.q_proj), ("k_proj", &attention.k_proj), ("v_proj", &attention.v_proj)]
                    .map(|(part, layer)| self.linear(&name(part), layer.weight.val(), x))
                    .map(|y| y.reshape([LENGTH, heads, config().head_width()]).swap_dims(0, 1));
            let y = ops::causal_attention(rotation.forward(q), rotation.forward(k), v);
            let y = y.swap_dims(0, 1).reshape([LENGTH, config().hidden]);
            self.linear(&name("o_proj"), attention.o_proj.weight.val(), &y)
        }

        fn logits(&self) -> Vec<f32> {
            let rope = Rope::new(config().context, config().head_width(), config().rope_theta, &Device::flex());
            let (rotation, mut x) = (rope.sequence(0, LENGTH), inputs());
            for (layer, block) in self.decoder.layers.iter().enumerate() {
                x = x.clone() + self.attention(layer, &block.input_layernorm.forward(x), &rotation);
                let (name, y) =
                    (format!("model.layers.{layer}.mlp"), block.post_attention_layernorm.forward(x.clone()));
                x = x + match &block.mlp {
                    Mlp::Dense(mlp) => self.mlp(&name, mlp, &y),
                    Mlp::Moe(moe) => {
                        let scores = self.linear(&format!("{name}.gate"), moe.gate.weight.val(), &y);
                        let shares = activation::softmax(scores, 1);
                        // Two of three are taken: all but the least likely.
                        let least = shares.clone().min_dim(1).expand([LENGTH, config().experts]);
                        let shares = shares.clone().mask_fill(shares.lower_equal(least), 0.0);
                        let expert = |index| {
                            let y = self.mlp(&format!("{name}.experts.{index}"), &moe.experts.get(index), &y);
                            y * shares.clone().narrow(1, index, 1)
                        };
                        let shared = self.mlp(&format!("{name}.shared_experts"), &moe.shared_experts, &y);
                        (0..config().experts).map(expert).fold(shared, |sum, y| sum + y)
                    }
                };
            }
            let y = self.decoder.norm.forward(x);
            self.linear("lm_head", self.decoder.lm_head.weight.val(), &y).into_data().iter::<f32>().collect()
        }
    }

    #[test]
    fn merged_weights_give_the_logits_of_base_and_adapters() {
        let base = filled();
        for patterns in [&["model.", "lm_head"][..], &["*.experts.*", "*.q_proj.*"]] {
            let adapters = adapters(patterns).unwrap().map(&mut Fill { random: Random::new(10, 0) });
            let apart = Apart { decoder: &base, adapters: &adapters }.logits();
            let merged = logits(&adapters.merged(base.clone()));
            assert!(difference(&apart, &merged) < 1e-5, "{}", difference(&apart, &merged));
            assert!(difference(&apart, &logits(&base)) > 0.05, "the adapters change nothing");
        }
    }

    #[test]
    fn adapters_begin_as_the_identity() {
        let (base, adapters) = (filled(), adapters(&["model.", "lm_head"]).unwrap());
        for (name, Adapter { a, b }) in &adapters.adapters {
            assert!(b.to_data().iter::<f32>().all(|value| value == 0.0), "{name}");
            assert!(a.to_data().iter::<f32>().all(|value| value != 0.0), "{name}");
        }
        assert_eq!(logits(&adapters.merged(base.clone())), logits(&base));
    }

    #[test]
    fn adapters_are_for_the_linear_layers_that_a_pattern_names() {
        let adapted = |patterns: &[&str]| adapters(patterns).unwrap().adapters.into_keys().collect::<Vec<_>>();
        // Attention in both blocks; a dense layer; a router, three experts and the shared one; not the embedding nor norms.
        assert_eq!(adapted(&["model."]).len(), 2 * 4 + 3 + 1 + 3 * 3 + 3);
        assert_eq!(
            adapted(&["*.0.self_attn.v_proj.*", "lm_head."]),
            ["lm_head.weight", "model.layers.0.self_attn.v_proj.weight"]
        );
        for pattern in ["model.embed_tokens.", "model.norm.", "model.sam_model."] {
            let error = adapters(&["lm_head.", pattern]).unwrap_err().to_string();
            assert!(error.contains(pattern), "{error}");
        }
    }
}
