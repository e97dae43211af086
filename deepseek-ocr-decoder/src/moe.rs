//! The mixture of experts (DeepSeekMoE): each position goes through a few routed experts and through the shared ones.

use crate::{
    DecoderConfig, Experts, GatedMlp,
    ops::{self, Rows},
};
use burn::{
    module::{Module, Param},
    nn::Initializer,
    tensor::{Device, Int, Tensor, activation},
};
use deepseek_ocr_core::ops::Precision;

/// A layer of routed and shared experts.
#[derive(Module, Debug)]
pub struct Moe {
    /// Chooses the experts of a position.
    pub gate: Router,
    /// The routed experts.
    pub experts: Experts,
    /// The shared experts, fused into one layer; they are not weighted.
    pub shared_experts: GatedMlp,
}

/// Scores the experts for each position. Its weight is f32 whatever the checkpoint's type is: it steers control flow.
#[derive(Module, Debug)]
pub struct Router {
    /// `[experts, hidden]`, f32.
    pub weight: Param<Tensor<2>>,
    chosen: usize,
}

/// Which experts each position takes, best first, and how much each counts.
#[derive(Debug, Clone)]
pub struct Routing {
    /// `[positions, chosen]`.
    pub indices: Tensor<2, Int>,
    /// `[positions, chosen]`: probabilities among all experts, so they do not add up to one.
    pub weights: Tensor<2>,
}

/// How a router decided, for the loss that keeps its experts evenly used.
#[derive(Debug, Clone)]
pub struct Choice {
    /// `[positions, experts]`: each expert's probability.
    pub probabilities: Tensor<2>,
    /// `[positions, chosen]`: those that were taken.
    pub indices: Tensor<2, Int>,
}

impl Moe {
    pub(crate) fn new(config: &DecoderConfig, device: &Device) -> Self {
        let &DecoderConfig { hidden, experts, experts_per_token, .. } = config;
        Self {
            gate: Router::new(hidden, experts, experts_per_token, device),
            experts: Experts::new(experts, [hidden, config.expert_width], device),
            shared_experts: GatedMlp::new(hidden, config.shared_width, device),
        }
    }

    /// # Shapes
    /// - `x`: `[positions, hidden]`
    /// - output: `[positions, hidden]`
    pub fn forward(&self, rows: Rows, x: Tensor<2>) -> Tensor<2> {
        let routing = self.gate.forward(rows, x.clone());
        ops::expert_mlp(rows, x, routing, self)
    }

    /// The same for positions of whole sequences, and how the router decided.
    ///
    /// # Shapes
    /// - `x`: `[positions, hidden]`
    /// - output: `[positions, hidden]`
    pub fn forward_chosen(&self, x: Tensor<2>) -> (Tensor<2>, Choice) {
        let together = Rows::Together(Precision::Exact);
        let probabilities = activation::softmax(self.gate.scores(together, x.clone()), 1);
        // Which experts are taken has no slope, how much they count has.
        let indices = ops::choose(probabilities.clone().inner().log(), self.gate.chosen).indices;
        let indices = if probabilities.is_autodiff() { indices.autodiff() } else { indices };
        let routing = Routing { weights: probabilities.clone().gather(1, indices.clone()), indices: indices.clone() };
        (ops::expert_mlp(together, x, routing, self), Choice { probabilities, indices })
    }
}

impl Router {
    fn new(hidden: usize, experts: usize, chosen: usize, device: &Device) -> Self {
        assert!((1..=experts).contains(&chosen), "{chosen} of {experts} experts cannot be chosen");
        let weights = Initializer::KaimingUniform { gain: 1.0 / 3.0f64.sqrt(), fan_out_only: false };
        Self { weight: weights.init_with([experts, hidden], Some(hidden), Some(experts), device), chosen }
    }

    /// # Shapes
    /// - `x`: `[positions, hidden]`
    /// - output: `[positions, chosen]`, twice
    pub fn forward(&self, rows: Rows, x: Tensor<2>) -> Routing {
        ops::choose(self.scores(rows, x), self.chosen)
    }

    /// The experts' logits.
    ///
    /// # Shapes
    /// - `x`: `[positions, hidden]`
    /// - output: `[positions, experts]`
    pub fn scores(&self, rows: Rows, x: Tensor<2>) -> Tensor<2> {
        ops::scores(rows, x, self.weight.val())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// The definition for one position, over plain slices.
    fn naive(moe: &Moe, x: &[f32], chosen: usize) -> Vec<f32> {
        let rows = |weight: Tensor<2>| -> Vec<Vec<f32>> {
            let width = weight.dims()[1];
            fixture::floats(weight).chunks(width).map(<[f32]>::to_vec).collect()
        };
        let product = |weight: Tensor<2>, x: &[f32]| -> Vec<f32> {
            rows(weight).iter().map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        let mlp = |layer: &GatedMlp| {
            let gate = product(layer.gate_proj.weight.val(), x);
            let up = product(layer.up_proj.weight.val(), x);
            let inner: Vec<f32> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            product(layer.down_proj.weight.val(), &inner)
        };
        let exps: Vec<f32> = product(moe.gate.weight.val(), x).iter().map(|s| s.exp()).collect();
        let total: f32 = exps.iter().sum();
        let mut order: Vec<usize> = (0..exps.len()).collect();
        order.sort_by(|&a, &b| exps[b].total_cmp(&exps[a]));
        let mut sum = mlp(&moe.shared_experts);
        for &expert in &order[..chosen] {
            let y = mlp(&moe.experts.get(expert));
            sum.iter_mut().zip(y).for_each(|(sum, y)| *sum += exps[expert] / total * y);
        }
        sum
    }

    #[test]
    fn equals_the_definition_for_some_and_for_all_experts_apart_and_stacked() {
        for (chosen, stacked) in [(1, false), (2, false), (4, false), (2, true), (4, true)] {
            let config = DecoderConfig { experts_per_token: chosen, ..fixture::config() };
            let mut moe = fixture::fill(Moe::new(&config, &Device::flex()));
            if stacked {
                moe.experts = moe.experts.stack();
                assert!(matches!(moe.experts, Experts::Stacked(_)) && moe.experts.len() == 4);
            }
            let values = fixture::values(7 * config.hidden, 5);
            let x = Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([7, config.hidden]);
            let y = fixture::floats(moe.forward(Rows::Together(Precision::Exact), x));
            for (x, y) in values.chunks(config.hidden).zip(y.chunks(config.hidden)) {
                fixture::assert_close(y, &naive(&moe, x, chosen), 1e-5);
            }
        }
    }
}
