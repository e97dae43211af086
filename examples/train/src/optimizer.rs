//! Muon on matrices, AdamW on all else.

use burn::{
    optim::{
        AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, AdjustLrFn, Muon, MuonConfig, Optimizer as _,
        decay::WeightDecayConfig, momentum::MomentumConfig,
    },
    tensor::{DType, Device, Gradients, Tensor, TensorData},
};
use deepseek_ocr_core::Parameters;
use std::collections::BTreeMap;

/// What Muon keeps of the direction that it went.
const MOMENTUM: f32 = 0.95;
const MUON_DECAY: f32 = 0.05;
const ADAM_DECAY: f32 = 0.01;
const BETAS: [f32; 2] = [0.9, 0.98];
const EPSILON: f32 = 1e-8;

/// Matrices that are tables, or whose rows stand for themselves: no directions to even out.
const TABLES: [&str; 7] =
    ["embed_tokens", "lm_head", "pos_embed", "position_embedding", "rel_pos", ".mlp.gate.weight", "auxiliary."];

/// The rule by which a parameter is changed, and what it remembers.
enum State {
    Muon { velocity: Tensor<2> },
    Adam(AdamWState<1>),
}

/// Remembers each parameter's past by name.
pub(crate) struct Optimizer {
    muon: Muon,
    adam: AdamW,
    states: BTreeMap<String, State>,
    frozen: Vec<String>,
}

/// Tensors by name, flat, with their shapes.
pub(crate) type Tensors = BTreeMap<String, TensorData>;

impl Optimizer {
    /// One that leaves parameters alone whose names fit one of `frozen`.
    pub(crate) fn new(frozen: &[String]) -> Self {
        // Momentum is our own: Burn's does not give its state away.
        let still = MomentumConfig { momentum: 0.0, dampening: 0.0, nesterov: false };
        let muon = MuonConfig::new()
            .with_momentum(still)
            .with_weight_decay(Some(WeightDecayConfig::new(MUON_DECAY)))
            .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW);
        let adam = AdamWConfig::new()
            .with_beta_1(BETAS[0])
            .with_beta_2(BETAS[1])
            .with_epsilon(EPSILON)
            .with_weight_decay(ADAM_DECAY);
        Self { muon: muon.build(), adam: adam.build(), states: BTreeMap::new(), frozen: frozen.to_vec() }
    }

    /// A pass over the parameters that changes them.
    pub(crate) fn step<'a>(&'a mut self, gradients: BTreeMap<String, Tensor<1>>, rate: f64) -> Step<'a> {
        Step { optimizer: self, gradients, rate }
    }

    /// What is remembered.
    pub(crate) fn to_tensors(&self) -> Tensors {
        let mut tensors = Tensors::new();
        for (name, state) in &self.states {
            match state {
                State::Muon { velocity } => {
                    tensors.insert(format!("velocity/{name}"), velocity.to_data());
                }
                State::Adam(AdamWState { momentum, .. }) => {
                    tensors.insert(format!("moment_1/{name}"), momentum.moment_1.to_data());
                    tensors.insert(format!("moment_2/{name}"), momentum.moment_2.to_data());
                    tensors.insert(format!("time/{name}"), TensorData::new(vec![momentum.time as f32], [1]));
                }
            }
        }
        tensors
    }

    /// Remembers what another one did.
    pub(crate) fn restore(&mut self, mut tensors: Tensors) {
        let names: Vec<String> = tensors.keys().cloned().collect();
        for key in names {
            let state = match key.split_once('/') {
                Some(("velocity", name)) => {
                    (name, tensors.remove(&key).map(|velocity| State::Muon { velocity: flex(velocity) }))
                }
                Some(("moment_1", name)) => {
                    let mut take = |part: &str| tensors.remove(&format!("{part}/{name}"));
                    let parts = (take("moment_1"), take("moment_2"), take("time"));
                    let (Some(first), Some(second), Some(time)) = parts else { continue };
                    let time = time.iter::<f32>().next().unwrap_or(0.0) as usize;
                    (
                        name,
                        Some(State::Adam(AdamWState::new(AdaptiveMomentumState::new(time, flex(first), flex(second))))),
                    )
                }
                _ => continue,
            };
            if let (name, Some(state)) = state {
                self.states.insert(name.to_owned(), state);
            }
        }
    }

    fn is_frozen(&self, name: &str) -> bool {
        self.frozen.iter().any(|pattern| fits(pattern, name))
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

fn flex<const D: usize>(data: TensorData) -> Tensor<D> {
    Tensor::from_data(data, (&Device::flex(), DType::F32))
}

/// Takes the gradients of all parameters, flat, and sums their squares.
pub(crate) struct Collect<'a> {
    pub gradients: &'a mut Gradients,
    pub found: BTreeMap<String, Tensor<1>>,
    pub squares: f64,
}

impl Parameters for Collect<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if let Some(gradient) = tensor.grad_remove(self.gradients) {
            let count = gradient.shape().num_elements();
            let gradient: Tensor<1> = gradient.reshape([count]);
            self.squares += f64::from(gradient.clone().square().sum().into_scalar::<f32>());
            self.found.insert(name.to_owned(), gradient);
        }
        tensor
    }
}

/// See [`Optimizer::step`].
pub(crate) struct Step<'a> {
    optimizer: &'a mut Optimizer,
    gradients: BTreeMap<String, Tensor<1>>,
    rate: f64,
}

impl Parameters for Step<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if self.optimizer.is_frozen(name) {
            return tensor;
        }
        let Some(gradient) = self.gradients.remove(name) else { return tensor };
        let (shape, tensor) = (tensor.shape(), tensor.inner());
        let count = shape.num_elements();
        let state = self.optimizer.states.remove(name);
        let is_matrix = D >= 2 && !TABLES.iter().any(|table| name.contains(table));
        let (tensor, state): (Tensor<D>, _) = if is_matrix {
            let size = [shape[0], count / shape[0]];
            let gradient = gradient.reshape(size);
            let velocity = match state {
                Some(State::Muon { velocity }) => velocity * MOMENTUM + gradient.clone(),
                _ => gradient.clone(),
            };
            let direction = velocity.clone() * MOMENTUM + gradient;
            let (matrix, _) = self.optimizer.muon.step(self.rate, tensor.reshape(size), direction, None);
            (matrix.reshape(shape), Some(State::Muon { velocity }))
        } else {
            let state = match state {
                Some(State::Adam(state)) => Some(state),
                _ => None,
            };
            let (flat, state) = self.optimizer.adam.step(self.rate, tensor.reshape([count]), gradient, state);
            (flat.reshape(shape), state.map(State::Adam))
        };
        if let Some(state) = state {
            self.optimizer.states.insert(name.to_owned(), state);
        }
        tensor.autodiff().require_grad()
    }
}
