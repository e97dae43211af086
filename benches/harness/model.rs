//! The released model's dimensions, filled with random weights or from a folder.

use super::{Options, Storage, fill};
use anyhow::Result;
use clap::ValueEnum;
use deepseek_ocr::{
    DeepseekOcr, Device, Page, Precision,
    decoder::{Decoder, DecoderConfig},
    encoder::{Encoder, EncoderConfig},
};
use deepseek_ocr_core::{View, Weights};

/// In which form the large weights are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// As released, activations rounded to bf16 before products as PyTorch does.
    Bf16,
    /// As released, activations not rounded: the library's default.
    Exact,
    /// Widened to single precision.
    F32,
    /// Blocks of 8 bits.
    Q8,
    /// Blocks of 4 bits.
    Q4,
}

/// An A4 page at 150 dots an inch.
pub const PAGE_WIDTH: u32 = 1240;
/// Its height.
pub const PAGE_HEIGHT: u32 = 1754;

/// The encoder with its dimensions.
#[derive(Debug)]
pub struct EncoderBench {
    /// The module.
    pub encoder: Encoder,
    /// Its dimensions.
    pub config: EncoderConfig,
}

/// The decoder.
#[derive(Debug)]
pub struct DecoderBench {
    /// The module.
    pub decoder: Decoder,
}

impl Format {
    /// What a bench of the encoder runs: its weights are never quantised.
    pub const ENCODER: [Self; 3] = [Self::Bf16, Self::Exact, Self::F32];
    /// What a bench of single steps runs: one row is never rounded.
    pub const STEP: [Self; 3] = [Self::Bf16, Self::Q8, Self::Q4];
    /// What a bench of whole prompts runs.
    pub const DECODER: [Self; 4] = [Self::Bf16, Self::Exact, Self::Q8, Self::Q4];

    /// As it stands in the names of cases.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Exact => "exact",
            Self::F32 => "f32",
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Bits of a weight, scales included.
    pub fn bits(self) -> f64 {
        match self {
            Self::Bf16 | Self::Exact => 16.0,
            Self::F32 => 32.0,
            Self::Q8 => 8.5,
            Self::Q4 => 4.5,
        }
    }

    fn storage(self) -> Storage {
        match self {
            Self::F32 => Storage::F32,
            _ => Storage::Bf16,
        }
    }

    fn weights(self) -> Weights {
        match self {
            Self::Q8 => Weights::Q8,
            Self::Q4 => Weights::Q4,
            _ => Weights::Stored,
        }
    }

    /// What products may round.
    pub fn precision(self) -> Precision {
        match self {
            Self::Exact | Self::F32 => Precision::Exact,
            _ => Precision::Bf16,
        }
    }
}

impl EncoderBench {
    /// Of the folder that the options name, or random. A folder's dimensions are taken to be the released ones.
    pub fn new(options: &Options, format: Format) -> Result<Self> {
        let config = EncoderConfig::default();
        let device = Device::flex();
        let encoder = match &options.model {
            Some(folder) => DeepseekOcr::from_dir(folder, &device)?.encoder().clone(),
            None => fill(config.init(&device), format.storage(), &device),
        };
        Ok(Self { encoder: encoder.with_precision(format.precision()), config })
    }
}

impl DecoderBench {
    /// Of the folder that the options name, or random.
    pub fn new(options: &Options, format: Format) -> Result<Self> {
        let device = Device::flex();
        let decoder = match &options.model {
            Some(folder) => {
                let loader = DeepseekOcr::loader(folder).with_device(&device).with_weights(format.weights());
                loader.load()?.decoder().clone()
            }
            None => fill(released_decoder().init(&device).with_weights(format.weights()), format.storage(), &device),
        };
        Ok(Self { decoder: decoder.with_precision(format.precision()) })
    }

    /// Token ids that are spread over the vocabulary.
    pub fn ids(&self, count: usize, seed: u32) -> Vec<u32> {
        let vocab = self.decoder.config().vocab as u32;
        let spread = |i: u32| (i ^ seed << 16).wrapping_mul(2_654_435_761) % vocab;
        (1..=count as u32).map(spread).collect()
    }
}

/// The released `config.json`.
pub fn released_decoder() -> DecoderConfig {
    DecoderConfig {
        vocab: 129_280,
        hidden: 1280,
        layers: 12,
        heads: 10,
        dense_width: 6848,
        dense_layers: 1,
        experts: 64,
        experts_per_token: 6,
        expert_width: 896,
        shared_width: 1792,
        context: 8192,
        rms_eps: 1e-6,
        rope_theta: 10_000.0,
    }
}

/// A view of noise.
pub fn view(side: u32, seed: u32) -> View {
    let pixels = (0..side * side * 3).map(|i| ((i ^ seed << 8).wrapping_mul(2_654_435_761) >> 24) as u8);
    View::new(side, pixels.collect())
}

/// A page of noise of the size of a scan.
pub fn page() -> Page {
    let noise = |x: u32, y: u32| (x ^ y << 11).wrapping_mul(2_654_435_761).to_be_bytes();
    Page::from(image::RgbImage::from_fn(PAGE_WIDTH, PAGE_HEIGHT, |x, y| {
        let [r, g, b, _] = noise(x, y);
        image::Rgb([r, g, b])
    }))
}
