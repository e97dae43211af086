//! The stages on a GPU: `cargo bench --bench gpu --features cuda -- --device cuda [--json] [--quick] [--mini] [--only PART]`.
//!
//! Limits are measured on the same device in the same run: the rate of a large copy and of a large dense product with the type that the
//! weights have. `--mini` takes the embedded checkpoint, to rehearse where there is no GPU: its times say nothing.
#![allow(clippy::print_stdout)]

mod harness;

use anyhow::Result;
use clap::Parser;
use deepseek_ocr::{
    DeepseekOcr, Device, Mode, TileGrid, Views,
    decoder::{Cache, Decoder, Segment},
    encoder::{Encoder, EncoderConfig},
};
use harness::{EncoderCost, Format, Machine, Options, Report, Storage, Work, fastest, fill, released_decoder, view};

/// Pages that are encoded together, rows that are decoded together, positions of a prompt.
const PAGES: [usize; 2] = [1, 8];
const BATCHES: [usize; 4] = [1, 8, 64, 256];
const PROMPTS: [usize; 2] = [300, 1000];

/// Bytes of a copy and side of a product that measure the limits.
const LIMITS: [usize; 2] = [1 << 30, 8192];
const FEW_LIMITS: [usize; 2] = [4 << 20, 256];

/// Positions before the first step and room for the steps.
const POSITIONS: usize = 300;
const FEW_POSITIONS: usize = 20;
const STEPS: usize = 40;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
struct GpuOptions {
    #[command(flatten)]
    common: Options,
    /// As `deepseek_ocr::device` knows it.
    #[arg(long, default_value = "cuda")]
    device: String,
    /// The embedded checkpoint and small batches.
    #[arg(long)]
    mini: bool,
}

/// The model and what is known of it.
struct Model {
    encoder: Encoder,
    decoder: Decoder,
    /// Nothing for the embedded checkpoint, whose encoder has other dimensions.
    config: Option<EncoderConfig>,
    format: Format,
}

fn main() -> Result<()> {
    let options = GpuOptions::parse();
    let device = deepseek_ocr::device(&options.device)?;
    let machine = Machine::of_device(&device, &options.common, if options.mini { FEW_LIMITS } else { LIMITS });
    let report = Report::new(&options.common, &machine);
    let model = Model::new(&options, &device)?;
    encoder(&model, &options, &machine, report);
    prefill(&model, &options, &machine, report)?;
    step(&model, &options, &machine, report)
}

impl Model {
    fn new(options: &GpuOptions, device: &Device) -> Result<Self> {
        let format = if device.supports_dtype(burn::tensor::DType::BF16) { Format::Bf16 } else { Format::F32 };
        let loaded = match (&options.common.model, options.mini) {
            (_, true) => Some(DeepseekOcr::mini(device)?),
            (Some(folder), _) => Some(DeepseekOcr::from_dir(folder, device)?),
            _ => None,
        };
        let released = EncoderConfig::default();
        let config = (!options.mini).then(|| released.clone());
        let (encoder, decoder) = match loaded {
            Some(ocr) => (ocr.encoder().clone(), ocr.decoder().clone()),
            None => {
                let storage = if format == Format::Bf16 { Storage::Bf16 } else { Storage::F32 };
                let decoder = fill(released_decoder().init(device), storage, device).settled();
                (fill(released.init(device), storage, device), decoder)
            }
        };
        let precision = format.precision();
        let (encoder, decoder) = (encoder.with_precision(precision), decoder.with_precision(precision));
        Ok(Self { encoder, decoder, config, format })
    }

    fn prompt(&self, positions: usize, seed: u32) -> Result<burn::tensor::Tensor<2>> {
        let vocab = self.decoder.config().vocab as u32;
        let ids = (1..=positions as u32).map(|i| (i ^ seed << 16).wrapping_mul(2_654_435_761) % vocab);
        Ok(self.decoder.embed(&[Segment::Text(ids.collect())])?)
    }
}

fn encoder(model: &Model, options: &GpuOptions, machine: &Machine, report: Report) {
    let modes: &[Mode] = if options.mini { &[Mode::Tiny] } else { &[Mode::Tiny, Mode::Small, Mode::Base, Mode::Large] };
    for &mode in modes {
        for pages in PAGES.into_iter().take(options.sizes(PAGES.len())) {
            let name = format!("gpu/encoder/{mode}/pages{pages}");
            if !options.common.wants(&name) {
                continue;
            }
            let side = mode.geometry().page_side;
            let views: Vec<Views> = (0..pages as u32)
                .map(|page| Views::new(mode, TileGrid::SINGLE, view(side, page), Vec::new()))
                .collect();
            let seconds = fastest(options.runs(), || {
                let tokens = model.encoder.encode_batch(&views);
                tokens.into_iter().map(|tokens| tokens.tensor().sum().into_scalar::<f32>()).fold(0.0, f32::max)
            });
            match &model.config {
                Some(config) => {
                    let work = (0..pages).map(|_| EncoderCost(config).view(side)).sum();
                    report.time(&name, seconds, machine.limit(work, model.format));
                }
                None => report.plain_time(&name, seconds),
            }
        }
    }
}

fn prefill(model: &Model, options: &GpuOptions, machine: &Machine, report: Report) -> Result<()> {
    for positions in PROMPTS.map(|positions| if options.mini { positions / 10 } else { positions }) {
        let name = format!("gpu/prefill/{positions}");
        if !options.common.wants(&name) {
            continue;
        }
        let inputs = model.prompt(positions, 1)?;
        let config = model.decoder.config();
        let seconds = fastest(options.runs(), || {
            let mut cache = Cache::new(config, 1, positions, &model.decoder.device());
            model.decoder.prefill(inputs.clone(), &mut cache, 0).into_data()
        });
        report.time(&name, seconds, machine.limit(Work::prefill(config, positions, model.format.bits()), model.format));
    }
    Ok(())
}

fn step(model: &Model, options: &GpuOptions, machine: &Machine, report: Report) -> Result<()> {
    let config = model.decoder.config();
    for rows in BATCHES.into_iter().take(options.sizes(BATCHES.len())) {
        let name = format!("gpu/step/batch{rows}");
        if !options.common.wants(&name) {
            continue;
        }
        let positions = if options.mini { FEW_POSITIONS } else { POSITIONS };
        let mut cache = Cache::new(config, rows, positions + STEPS, &model.decoder.device());
        for row in 0..rows {
            model.decoder.prefill(model.prompt(positions, row as u32)?, &mut cache, row);
        }
        let places: Vec<usize> = (0..rows).collect();
        let tokens: Vec<u32> = places.iter().map(|&row| (row * 7 % config.vocab) as u32).collect();
        let seconds = fastest(options.runs(), || model.decoder.step(&tokens, &places, &mut cache).into_data());
        report.time(&name, seconds, machine.limit(Work::step(config, rows, model.format.bits()), model.format));
        report.value(&format!("{name}/tokens-per-second"), rows as f64 / seconds);
    }
    Ok(())
}

impl GpuOptions {
    /// How many of some growing sizes to run.
    fn sizes(&self, all: usize) -> usize {
        if self.mini { all.div_ceil(2) } else { all }
    }

    fn runs(&self) -> usize {
        self.common.runs(if self.mini { 3 } else { 20 }, 2)
    }
}
