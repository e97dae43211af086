//! The slope of every operation that training goes through against finite differences.
//!
//! Autodiff's slopes are of f32 tensors on the tracked paths. The differences are of what the same modules give on the paths that
//! inference takes, kernels included, summed in f64: central ones of two steps, of which Richardson's extrapolation takes the error
//! of second order away. What is left is of fourth order in [`STEP`], with norms over four channels about 1e-4, and rounding, about
//! `2^-23 / STEP` for each number of the output that changes: [`TOLERANCE`] leaves room for both. A slope that is wrong by a factor
//! or lacks a term is off by far more.

use crate::{
    batch::{Batch, Totals},
    guide,
    heads::{Heads, asked_for, cross_entropy},
    network::unevenness,
    parameters::Track,
    random::{self, Random},
};
use burn::{
    module::{Module, ModuleDisplay, Param},
    nn::{LayerNormConfig, RmsNormConfig},
    tensor::{DType, Device, Int, Tensor, TensorData, activation},
};
use deepseek_ocr_core::{Names, Parameters, StoredLinearConfig, TokenEmbedding, ops::Precision};
use deepseek_ocr_decoder::{Choice, DecoderConfig, Mlp, Rope};
use deepseek_ocr_encoder::{ClipConfig, CompressorConfig, Encoder, EncoderConfig, SamConfig, ops::Activation};
use std::collections::BTreeMap;

const STEP: f32 = 1e-2;

/// Of the larger of one and the slope.
const TOLERANCE: f64 = 3e-3;

/// Numbers of a parameter that are tried at most.
const TRIED: usize = 5;

const NAMES: Names = Names(&[]);

/// A module and what it reads, all of it parameters.
#[derive(Module, Debug)]
struct Case<M: Module> {
    module: M,
    inputs: Vec<Param<Tensor<1>>>,
}

impl<M: Module> Case<M> {
    fn input<const D: usize>(&self, index: usize, shape: [usize; D]) -> Tensor<D> {
        self.inputs[index].val().reshape(shape)
    }
}

/// Checks all slopes of `f`, a function of a module and of inputs of so many numbers.
fn check<M: Module + ModuleDisplay, const D: usize>(module: M, inputs: &[usize], f: impl Fn(&Case<M>) -> Tensor<D>) {
    let zeros = |count: &usize| Param::from_tensor(Tensor::zeros([*count], &Device::flex()));
    let case = Case { module, inputs: inputs.iter().map(zeros).collect() };
    // With these numbers no position is about to take another expert: there slopes jump.
    let case = NAMES.map(case, &mut Fill { random: Random::new(3, 1) });
    let factors = |count: usize| {
        let mut random = Random::new(4, 0);
        (0..count).map(|_| (2.0 * random.fraction() - 1.0) as f32).collect::<Vec<_>>()
    };

    let tracked = NAMES.map(case.clone(), &mut Track { among: "", frozen: &[] });
    let y = f(&tracked);
    let values = TensorData::new(factors(y.shape().num_elements()), y.shape());
    let factors_of_y = Tensor::from_data(values, (&y.device(), DType::F32));
    let gradients = (y * factors_of_y).sum().backward();
    let mut slopes = Slopes { gradients, found: BTreeMap::new() };
    NAMES.map(tracked, &mut slopes);

    let value = |name: &str, index: usize, by: f32| {
        let y = f(&NAMES.map(case.clone(), &mut Nudge { name, index, by })).into_data();
        y.iter::<f64>().zip(factors(y.num_elements())).map(|(y, factor)| y * f64::from(factor)).sum::<f64>()
    };
    let mut checked = 0;
    for (name, slopes) in slopes.found {
        let stride = slopes.len().div_ceil(TRIED);
        for index in (0..slopes.len()).step_by(stride).map(|index| (index + stride / 2).min(slopes.len() - 1)) {
            let central = |step: f32| (value(&name, index, step) - value(&name, index, -step)) / f64::from(2.0 * step);
            let difference = (4.0 * central(STEP / 2.0) - central(STEP)) / 3.0;
            let slope = f64::from(slopes[index]);
            let error = (difference - slope).abs();
            assert!(error < TOLERANCE * slope.abs().max(1.0), "{name}[{index}]: {slope}, differences say {difference}");
            checked += 1;
        }
    }
    assert!(checked >= inputs.len(), "only {checked} slopes were found");
}

/// Numbers in -1..1, small ones for wide matrices.
pub(crate) struct Fill {
    pub random: Random,
}

impl Parameters for Fill {
    fn parameter<const D: usize>(&mut self, _name: &str, tensor: Tensor<D>) -> Tensor<D> {
        let shape = tensor.shape();
        let scale = if D == 1 { 1.0 } else { (shape.num_elements() as f64 / shape[0] as f64).powf(-0.5) * 1.7 };
        let values = (0..shape.num_elements()).map(|_| ((2.0 * self.random.fraction() - 1.0) * scale) as f32);
        Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), shape), (&Device::flex(), DType::F32))
    }
}

/// Changes one number.
struct Nudge<'a> {
    name: &'a str,
    index: usize,
    by: f32,
}

impl Parameters for Nudge<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if name != self.name {
            return tensor;
        }
        let shape = tensor.shape();
        let mut values: Vec<f32> = tensor.into_data().iter::<f32>().collect();
        values[self.index] += self.by;
        Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F32))
    }
}

struct Slopes {
    gradients: burn::tensor::Gradients,
    found: BTreeMap<String, Vec<f32>>,
}

impl Parameters for Slopes {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if let Some(slope) = tensor.grad(&self.gradients) {
            self.found.insert(name.to_owned(), slope.into_data().iter::<f32>().collect());
        }
        tensor
    }
}

/// A module of nothing.
fn none() -> Vec<Param<Tensor<1>>> {
    Vec::new()
}

fn encoder() -> Encoder {
    let sam = SamConfig::new(8, 2, 2, vec![1], 8).with_neck_channels(4);
    EncoderConfig::new(sam, CompressorConfig::new([4, 8]), ClipConfig::new(8, 1, 2, 2), 6).init(&Device::flex())
}

pub(crate) fn decoder() -> DecoderConfig {
    DecoderConfig {
        vocab: 11,
        hidden: 8,
        layers: 2,
        heads: 2,
        dense_width: 12,
        dense_layers: 1,
        experts: 3,
        experts_per_token: 2,
        expert_width: 5,
        shared_width: 7,
        context: 16,
        rms_eps: 1e-6,
        rope_theta: 100.0,
    }
}

#[test]
fn linear_layers() {
    let _alone = random::alone();
    check(StoredLinearConfig::new(5, 3).init(&Device::flex()), &[20], |case| {
        case.module.forward(case.input(0, [4, 5]))
    });
}

#[test]
fn embeddings() {
    let _alone = random::alone();
    check(TokenEmbedding::new(6, 4, &Device::flex()), &[], |case| {
        let device = case.module.weight.val().device();
        case.module.forward(Tensor::<1, Int>::from_data([1, 5, 1], (&device, DType::I32)))
    });
}

#[test]
fn norms() {
    let _alone = random::alone();
    check(LayerNormConfig::new(6).init(&Device::flex()), &[12], |case| case.module.forward(case.input(0, [2, 6])));
    check(RmsNormConfig::new(6).init(&Device::flex()), &[12], |case| case.module.forward(case.input(0, [2, 6])));
}

#[test]
fn attention_in_windows_that_overhang_and_over_the_whole() {
    let _alone = random::alone();
    use deepseek_ocr_encoder::ops::rel_pos_attention;
    let layer = StoredLinearConfig::new(8, 24).init(&Device::flex());
    for [high, wide] in [[2, 2], [3, 5], [4, 4]] {
        let tables = [high, wide].map(|side| (2 * side - 1) * 4);
        check(layer.clone(), &[2 * 15 * 8, tables[0], tables[1]], |case| {
            let tables = [case.input(1, [tables[0] / 4, 4]), case.input(2, [tables[1] / 4, 4])];
            rel_pos_attention(Precision::Exact, case.input(0, [2, 3, 5, 8]), &case.module, tables)
        });
    }
}

#[test]
fn attention_over_all_tokens() {
    let _alone = random::alone();
    check(none(), &[2 * 5 * 24], |case| {
        deepseek_ocr_encoder::ops::attention(Precision::Exact, case.input(0, [2, 5, 24]), 2)
    });
}

#[test]
fn the_towers_feed_forward_layers() {
    let _alone = random::alone();
    let [up, down] =
        [StoredLinearConfig::new(4, 7).init(&Device::flex()), StoredLinearConfig::new(7, 3).init(&Device::flex())];
    for activation in [Activation::GeluErf, Activation::QuickGelu] {
        check(vec![up.clone(), down.clone()], &[12], |case| {
            let layers = [&case.module[0], &case.module[1]];
            deepseek_ocr_encoder::ops::mlp(Precision::Exact, layers, activation, case.input(0, [3, 4]))
        });
    }
}

#[test]
fn convolutions() {
    let _alone = random::alone();
    let encoder = encoder();
    check(encoder.sam.patch_embed.clone(), &[3 * 32 * 48], |case| case.module.forward(case.input(0, [1, 3, 32, 48])));
    check(encoder.sam.neck.clone(), &[4 * 4 * 8], |case| case.module.forward(case.input(0, [1, 4, 4, 8])));
    check(encoder.compressor.clone(), &[2 * 4 * 4 * 8], |case| case.module.forward(case.input(0, [2, 4, 4, 8])));
}

#[test]
fn the_towers_with_positions_of_a_part() {
    let _alone = random::alone();
    let encoder = encoder();
    check(encoder.sam.blocks.clone(), &[2 * 4 * 8 * 8], |case| {
        case.module.iter().fold(case.input(0, [2, 4, 8, 8]), |x, block| block.forward_part(x))
    });
    check(encoder.clip.clone(), &[8 * 2], |case| case.module.forward_part(case.input(0, [1, 8, 1, 2]), [1, 0]));
    check(encoder.projector.clone(), &[3 * 8, 8 * 2], |case| {
        case.module.forward(case.input(0, [1, 3, 8]), case.input(1, [1, 8, 1, 2]))
    });
    check(encoder.layout.clone(), &[2 * 6 * 6], |case| case.module.forward_pages(case.input(0, [2, 2, 3, 6])));
}

#[test]
fn rotations_and_causal_attention() {
    let _alone = random::alone();
    let (rope, heads, width) = (Rope::new(8, 4, 100.0, &Device::flex()), 2, 4);
    check(none(), &[heads * 5 * width; 3], |case| {
        let [q, k, v] = [0, 1, 2].map(|part| case.input(part, [heads, 5, width]));
        let rotation = rope.sequence(2, 5);
        deepseek_ocr_decoder::ops::causal_attention(rotation.forward(q), rotation.forward(k), v)
    });
}

#[test]
fn dense_layers_and_mixtures_with_their_routing() {
    let _alone = random::alone();
    let decoder = decoder().init(&Device::flex());
    for block in decoder.layers.clone() {
        match block.mlp {
            Mlp::Dense(mlp) => check(mlp, &[4 * 8], |case| {
                case.module.forward(deepseek_ocr_decoder::ops::Rows::Together(Precision::Exact), case.input(0, [4, 8]))
            }),
            Mlp::Moe(moe) => check(moe, &[4 * 8], |case| {
                let (y, Choice { probabilities, .. }) = case.module.forward_chosen(case.input(0, [4, 8]));
                Tensor::cat(vec![y, probabilities], 1)
            }),
        }
    }
}

#[test]
fn whole_blocks_over_sequences() {
    let _alone = random::alone();
    check(decoder().init(&Device::flex()), &[2 * 4 * 8], |case| {
        let taught = case.module.forward(case.input(0, [2, 4, 8]), &[0, 1, 2, 5]);
        case.module.logits_together(taught.last().reshape([8, 8]))
    });
}

/// Two pages of one row of tokens, six cells each, with texts that are asked for in parts.
fn batch() -> Batch {
    let texts = vec![vec![3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7], vec![2, 7, 1, 8, 2, 8, 1, 8, 2]];
    Batch {
        pages: 2,
        rows: 1,
        at: [0, 0],
        pixels: Vec::new(),
        prompt: vec![4],
        stands: texts.iter().map(|text| (0..text.len()).collect()).collect(),
        texts,
        asked: vec![1, 2, 7, 8, 13],
        cells: vec![(0, 3), (5, 1), (17, 95), (50, 7), (95, 0)],
        all_cells: 96,
        grid: 6,
        in_blocks: true,
    }
}

#[test]
fn auxiliary_losses() {
    let _alone = random::alone();
    // Without experts: the slope jumps where a position takes another one, and their own slopes are checked above.
    let config = DecoderConfig { layers: 3, dense_layers: 3, context: 40, ..decoder() };
    let decoder = config.init(&Device::flex());
    let heads = Heads::new(4, &decoder, [8, 6]);
    // Sums rather than means, so that slopes are large beside the rounding.
    let (batch, totals) = (batch(), Totals { pages: 2, tokens: 1, cells: 1 });
    let positions: Vec<usize> = (0..12).chain(batch.known().map(|at| 12 + at)).collect();
    check((decoder, heads.clone()), &[2 * positions.len() * 8], |case| {
        let (decoder, heads) = &case.module;
        let taught = decoder.forward(case.input(0, [2, positions.len(), 8]), &positions);
        let states = decoder.norm.forward(asked_for(taught.last(), &batch));
        let (looks, _) = guide::of_looks(decoder, &taught, &positions, &batch, totals);
        let (places, _) = heads.of_places(&taught, &batch, totals);
        Tensor::cat(vec![looks, places, heads.of_shares(states, 2, &batch, totals).0], 0)
    });
    check(heads, &[2 * 4 * 32 * 4, 2 * 8 * 8], |case| {
        let (patches, _) = case.module.of_patches(case.input(0, [2, 4, 32, 4]), &batch, totals);
        Tensor::cat(vec![patches, case.module.of_tokens(case.input(1, [2, 1, 8, 8]), &batch, totals).0], 0)
    });
}

#[test]
fn losses() {
    let _alone = random::alone();
    check(none(), &[4 * 6], |case| {
        cross_entropy(case.input(0, [4, 6]), &[5, 0, 3, 1], &[true, true, false, true], 3).0
    });
    check(none(), &[4 * 3], |case| {
        let indices = Tensor::<2, Int>::from_data([[0, 1], [2, 1], [1, 0], [1, 2]], (&Device::flex(), DType::I32));
        unevenness(Choice { probabilities: activation::softmax(case.input(0, [4, 3]), 1), indices })
    });
}
