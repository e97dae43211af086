//! Operations and bytes of the model's stages, counted from its dimensions.
//!
//! Counted is what the model's definition asks for, not what an implementation does: a multiplication and its addition
//! are two operations; norms, activations, softmax and residuals count nothing, so that they show as distance from the
//! limit. Of memory, each weight counts once for each time that all of it must be read; activations and the keys and
//! values in the cache count nothing.

use deepseek_ocr::{
    decoder::DecoderConfig,
    encoder::{ClipConfig, CompressorConfig, EncoderConfig, SamConfig},
};

/// What some work costs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Operations.
    pub flops: f64,
    /// Bytes of weights.
    pub bytes: f64,
}

/// Costs of an encoder.
#[derive(Debug, Clone, Copy)]
pub struct EncoderCost<'a>(pub &'a EncoderConfig);

/// Side of a SAM patch, side of its windows, hidden width of the towers' layers over their width, and CLIP tokens that
/// are not patches: constants of the released code.
const PATCH: f64 = 16.0;
const WINDOW: f64 = 14.0;
const MLP_RATIO: f64 = 4.0;
const CLASS_TOKENS: f64 = 1.0;

/// Bytes of the weights that are not quantised, and of the router's.
const BF16: f64 = 2.0;
const F32: f64 = 4.0;

impl std::ops::Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), std::ops::Add::add)
    }
}

impl EncoderCost<'_> {
    /// One square view of `side` pixels: 1.1 TFLOP for 1024.
    pub fn view(self, side: u32) -> Work {
        let Self(config) = self;
        let grid = f64::from(side) / PATCH;
        let tokens = grid * grid / 16.0;
        let features = config.compressor.channels[1] as f64 + config.clip.width as f64;
        let projector = product(tokens, features, config.hidden as f64);
        sam(&config.sam, grid)
            + compressor(&config.compressor, &config.sam, grid)
            + clip(&config.clip, tokens)
            + projector
    }
}

fn sam(config: &SamConfig, grid: f64) -> Work {
    let (width, neck, patches) = (config.width as f64, config.neck_channels as f64, grid * grid);
    let embed = product(patches, 3.0 * PATCH * PATCH, width);
    let block = |layer: usize| {
        // Windows at the edges are padded with zeros, which are keys like others; only true patches ask.
        let (keys, span) =
            if config.global_blocks.contains(&layer) { (patches, grid) } else { (WINDOW * WINDOW, WINDOW) };
        let relative = 2.0 * patches * 2.0 * span * width;
        transformer_layer(patches, width) + operations(attention(patches, keys, width) + relative)
    };
    let blocks: Work = (0..config.layers).map(block).sum();
    embed + blocks + product(patches, width, neck) + product(patches, 9.0 * neck, neck)
}

fn compressor(config: &CompressorConfig, sam: &SamConfig, grid: f64) -> Work {
    let [middle, outputs] = config.channels.map(|channels| channels as f64);
    let patches = grid * grid;
    product(patches / 4.0, 9.0 * sam.neck_channels as f64, middle) + product(patches / 16.0, 9.0 * middle, outputs)
}

fn clip(config: &ClipConfig, tokens: f64) -> Work {
    let (tokens, width) = (tokens + CLASS_TOKENS, config.width as f64);
    let layer = transformer_layer(tokens, width) + operations(attention(tokens, tokens, width));
    (0..config.layers).map(|_| layer).sum()
}

/// The products of a layer of either tower: queries, keys and values, what follows attention, and the feed-forward pair.
fn transformer_layer(tokens: f64, width: f64) -> Work {
    product(tokens, width, 3.0 * width)
        + product(tokens, width, width)
        + product(tokens, width, MLP_RATIO * width)
        + product(tokens, MLP_RATIO * width, width)
}

/// A product with weights in bf16.
fn product(rows: f64, inputs: f64, outputs: f64) -> Work {
    Work { flops: 2.0 * rows * inputs * outputs, bytes: BF16 * inputs * outputs }
}

fn operations(flops: f64) -> Work {
    Work { flops, bytes: 0.0 }
}

/// Scores and weighted sums over all heads.
fn attention(queries: f64, keys: f64, width: f64) -> f64 {
    4.0 * queries * keys * width
}

/// How many weights a decoder reads, and how many it multiplies with.
struct Weights {
    /// Of the layers, each position multiplies with these.
    active: f64,
    /// Of the layers, read once for all positions; routers aside.
    read: f64,
    /// Of all routers.
    routers: f64,
    /// Of the head.
    head: f64,
}

impl Weights {
    /// For `positions` that go through the layers together.
    fn new(config: &DecoderConfig, positions: usize) -> Self {
        let hidden = config.hidden as f64;
        let gated = |width: usize| 3.0 * hidden * width as f64;
        let (dense, mixed) = (config.dense_layers as f64, (config.layers - config.dense_layers) as f64);
        let always = config.layers as f64 * 4.0 * hidden * hidden
            + dense * gated(config.dense_width)
            + mixed * gated(config.shared_width);
        let expert = mixed * gated(config.expert_width);
        Self {
            active: always + config.experts_per_token as f64 * expert,
            read: always + distinct_experts(config, positions) * expert,
            routers: mixed * hidden * config.experts as f64,
            head: hidden * config.vocab as f64,
        }
    }
}

/// Experts of a layer that `positions` touch when routing is random: 6 for one, 51 for 16, all 64 for a prompt.
pub fn distinct_experts(config: &DecoderConfig, positions: usize) -> f64 {
    let (experts, chosen) = (config.experts as f64, config.experts_per_token as f64);
    experts * (1.0 - (1.0 - chosen / experts).powi(positions as i32))
}

impl Work {
    /// One token for each of `rows` rows; `bits` of a weight, scales included.
    pub fn step(config: &DecoderConfig, rows: usize, bits: f64) -> Self {
        let weights = Weights::new(config, rows);
        let bytes = (weights.read + weights.head) * bits / 8.0 + weights.routers * F32;
        let flops = 2.0 * rows as f64 * (weights.active + weights.routers + weights.head);
        Self { flops, bytes }
    }

    /// A prompt of `positions`, whose last one gets logits. Attention is causal: half of the scores.
    pub fn prefill(config: &DecoderConfig, positions: usize, bits: f64) -> Self {
        let weights = Weights::new(config, positions);
        let rows = positions as f64;
        let scores = config.layers as f64 * attention(rows, rows, config.hidden as f64) / 2.0;
        let bytes = (weights.read + weights.head) * bits / 8.0 + weights.routers * F32;
        Self { flops: 2.0 * rows * (weights.active + weights.routers) + scores + 2.0 * weights.head, bytes }
    }
}

/// Weights that one token reads: 573 million in the released model.
pub fn decoder_weights(config: &DecoderConfig) -> f64 {
    let weights = Weights::new(config, 1);
    weights.read + weights.routers + weights.head
}
