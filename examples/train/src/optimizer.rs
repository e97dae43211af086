//! Muon on matrices, AdamW on all else.

use burn::{
    optim::{
        AdamW, AdamWConfig, AdamWState, AdaptiveMomentumState, AdjustLrFn, Muon, MuonConfig, Optimizer as _,
        decay::WeightDecayConfig, momentum::MomentumConfig,
    },
    tensor::{DType, Device, Gradients, Tensor, TensorData},
};
use deepseek_ocr_core::Parameters;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// What Muon keeps of the direction that it went.
const MOMENTUM: f32 = 0.95;
const MUON_DECAY: f32 = 0.05;
const ADAM_DECAY: f32 = 0.01;
const BETAS: [f32; 2] = [0.9, 0.98];
const EPSILON: f32 = 1e-8;

/// Matrices that are tables, whose rows stand for themselves, or that are adapters' thin factors: no directions to even out.
const TABLES: [&str; 8] = [
    "embed_tokens",
    "lm_head",
    "pos_embed",
    "position_embedding",
    "rel_pos",
    ".mlp.gate.weight",
    "auxiliary.",
    "lora.",
];

/// What a rule remembers of a parameter.
#[expect(clippy::large_enum_variant, reason = "there are some dozens, and what their tensors hold is far larger")]
enum State {
    Muon { velocity: Tensor<2> },
    Adam(AdamWState<1>),
}

/// Remembers each parameter's past by name.
pub(crate) struct Optimizer {
    muon: Muon,
    adam: AdamW,
    states: BTreeMap<String, State>,
    device: Device,
}

/// Tensors by name.
pub(crate) type Tensors = BTreeMap<String, TensorData>;

/// Gradients by the names of their parameters, flat.
pub(crate) type Slopes = BTreeMap<String, Tensor<1>>;

/// A parameter on its way.
struct Change {
    name: String,
    /// Flat, and its shape.
    value: (Tensor<1>, Vec<usize>),
    slope: Tensor<1>,
    state: Option<State>,
}

/// Whether a parameter of so many dimensions is a matrix, or kernels that are one.
pub(crate) fn is_matrix(name: &str, dimensions: usize) -> bool {
    dimensions >= 2 && !TABLES.iter().any(|table| name.contains(table))
}

impl Optimizer {
    pub(crate) fn new(device: &Device) -> Self {
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
        Self { muon: muon.build(), adam: adam.build(), states: BTreeMap::new(), device: device.clone() }
    }

    /// New values for parameters, given their old ones, their slopes and the learning rate of each name; on the CPU several at a time.
    pub(crate) fn step(
        &mut self,
        values: BTreeMap<String, (Tensor<1>, Vec<usize>)>,
        mut slopes: Slopes,
        rate: impl Fn(&str) -> f64 + Sync,
    ) -> Slopes {
        let change = |(name, value)| {
            let (slope, state) = (slopes.remove(&name)?, self.states.remove(&name));
            Some(Change { name, value, slope, state })
        };
        let mut changes: Vec<Change> = values.into_iter().filter_map(change).collect();
        // The longest first, so that none is left over for one thread alone.
        changes.sort_by_key(|change| std::cmp::Reverse(change.value.1.iter().product::<usize>()));
        let (muon, adam) = (&self.muon, &self.adam);
        let apply = |change: Change| {
            let rate = rate(&change.name);
            change.apply(muon, adam, rate)
        };
        // Each thread would have a queue of its own on a GPU, and wait for those of others.
        let changed: Vec<_> = match self.device == Device::flex() {
            true => changes.into_par_iter().with_max_len(1).map(apply).collect(),
            false => changes.into_iter().map(apply).collect(),
        };
        let mut values = Slopes::new();
        for (name, value, state) in changed {
            values.insert(name.clone(), value);
            self.states.insert(name, state);
        }
        values
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
        let device = &self.device;
        for key in names {
            let Some((kind, name)) = key.split_once('/') else { continue };
            let mut take = |part: &str| tensors.remove(&format!("{part}/{name}"));
            let state = match kind {
                "velocity" => take(kind).map(|velocity| State::Muon { velocity: on(device, velocity) }),
                "moment_1" => adam(device, [take(kind), take("moment_2"), take("time")]),
                _ => None,
            };
            if let Some(state) = state {
                self.states.insert(name.to_owned(), state);
            }
        }
    }
}

impl Change {
    fn apply(self, muon: &Muon, adam: &AdamW, rate: f64) -> (String, Tensor<1>, State) {
        let Self { name, value: (value, shape), slope, state } = self;
        let count = value.dims()[0];
        if is_matrix(&name, shape.len()) {
            let size = [shape[0], count / shape[0]];
            let slope = slope.reshape(size);
            let velocity = match state {
                Some(State::Muon { velocity }) => velocity * MOMENTUM + slope.clone(),
                _ => slope.clone(),
            };
            let direction = velocity.clone() * MOMENTUM + slope;
            let (matrix, _) = muon.step(rate, value.reshape(size), direction, None);
            (name, matrix.reshape([count]), State::Muon { velocity })
        } else {
            let state = match state {
                Some(State::Adam(state)) => Some(state),
                _ => None,
            };
            let (value, state) = adam.step(rate, value, slope, state);
            (name, value, State::Adam(state.expect("AdamW remembers each step")))
        }
    }
}

fn adam(device: &Device, [first, second, time]: [Option<TensorData>; 3]) -> Option<State> {
    let time = time?.iter::<f32>().next()? as usize;
    let (first, second) = (on(device, first?), on(device, second?));
    Some(State::Adam(AdamWState::new(AdaptiveMomentumState::new(time, first, second))))
}

fn on<const D: usize>(device: &Device, data: TensorData) -> Tensor<D> {
    Tensor::from_data(data, (device, DType::F32))
}

/// Takes the gradients of all parameters.
pub(crate) struct Collect {
    pub gradients: Gradients,
    pub found: Slopes,
}

impl Parameters for Collect {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if let Some(slope) = tensor.grad_remove(&mut self.gradients) {
            let count = slope.shape().num_elements();
            self.found.insert(name.to_owned(), slope.reshape([count]));
        }
        tensor
    }
}

/// Takes the values of all parameters.
#[derive(Default)]
pub(crate) struct Values(pub BTreeMap<String, (Tensor<1>, Vec<usize>)>);

impl Parameters for Values {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        let shape = tensor.shape();
        self.0.insert(name.to_owned(), (tensor.clone().reshape([shape.num_elements()]), shape.to_vec()));
        tensor
    }
}

/// Puts new values in the place of old ones.
pub(crate) struct Put(pub Slopes);

impl Parameters for Put {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        match self.0.remove(name) {
            Some(value) => value.reshape(tensor.shape()),
            None => tensor,
        }
    }
}
