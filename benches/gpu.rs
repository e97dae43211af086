//! The stages on a GPU, and pages from pixels to text:
//! `cargo bench --bench gpu --features cuda -- --device cuda [--json] [--quick] [--mini] [--only PART]`.
//!
//! `pages` reads many pages through an engine: `--pages`, `--tokens` and `--rows` set how many, how long their answers are in the mean, and
//! how many run at a time. Limits are measured on the same device in the same run: the rate of a large copy and of a large dense product
//! with the type that the weights have. `--mini` takes the embedded checkpoint, to rehearse where there is no GPU: its times say nothing.
#![allow(clippy::print_stdout)]

mod harness;

use anyhow::Result;
use clap::Parser;
use deepseek_ocr::{
    DeepseekOcr, Device, Engine, EngineOptions, Mode, NoRepeat, Page, Request, TileGrid, Tokenizer, Views,
    decoder::{Cache, Decoder, DecoderConfig, GenerateOptions, Generation, LoopStop, Prompt, Segment},
    encoder::{Encoder, EncoderConfig},
};
use harness::{EncoderCost, Format, Machine, Options, Report, Storage, Work, fastest, fill, released_decoder, view};
use std::{thread, time::Instant};

/// Any will do: of random weights no text is asked.
const TOKENIZER: &[u8] = include_bytes!("../assets/mini/tokenizer.json");

/// Pages that are encoded together, rows that are decoded together, positions of a prompt.
const PAGES: [usize; 2] = [1, 8];
const BATCHES: [usize; 4] = [1, 8, 64, 256];
const PROMPTS: [usize; 2] = [300, 1000];

/// Bytes of a copy and side of a product that measure the limits.
const LIMITS: [usize; 2] = [1 << 30, 8192];
const FEW_LIMITS: [usize; 2] = [4 << 20, 256];

/// Positions before the first step.
const POSITIONS: usize = 300;
const FEW_POSITIONS: usize = 20;

/// Pages that are read through the engine, tokens of their answers in the mean, and rows.
const MIX: [usize; 3] = [512, 700, 256];
const FEW_MIX: [usize; 3] = [6, 8, 4];

/// Answers of a mix are so much of the mean, in turns: pages end at different times, as in a service.
const SHARES: [f64; 5] = [0.5, 1.0, 1.4, 0.8, 1.3];

/// An A4 page at 150 dots an inch.
const PAGE: [u32; 2] = [1240, 1754];

/// Positions of the prompt beside the page.
const TEXT: usize = 8;

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
    /// Pages of the mix.
    #[arg(long)]
    pages: Option<usize>,
    /// Tokens of an answer in the mean.
    #[arg(long)]
    tokens: Option<usize>,
    /// Pages that are read at the same time.
    #[arg(long)]
    rows: Option<usize>,
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
    step(&model, &options, &machine, report)?;
    pages(model, &options, &machine, report)
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
        Ok(self.decoder.embed(&[Segment::Text(ids(self.decoder.config(), positions, seed))])?)
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
        let mut generation = Generation::empty(&model.decoder);
        for row in 0..rows {
            let segments = vec![Segment::Text(ids(config, positions, row as u32))];
            let endless = GenerateOptions::new(u32::MAX).with_max_new_tokens(usize::MAX).with_loop_stop(LoopStop::OFF);
            generation.join(&model.decoder, &Prompt { segments, vision_id: 0 }, endless)?;
        }
        generation.advance(&model.decoder)?;
        let seconds = fastest(options.runs(), || generation.advance(&model.decoder).map(|tokens| tokens.len()));
        report.time(&name, seconds, machine.limit(Work::step(config, rows, model.format.bits()), model.format));
        report.value(&format!("{name}/tokens-per-second"), rows as f64 / seconds);
    }
    Ok(())
}

/// Pages of different lengths through an engine, from pixels to text, and what that takes at least.
fn pages(model: Model, options: &GpuOptions, machine: &Machine, report: Report) -> Result<()> {
    let [few_pages, few_tokens, few_rows] = if options.mini { FEW_MIX } else { MIX };
    let (pages, tokens) = (options.pages.unwrap_or(few_pages), options.tokens.unwrap_or(few_tokens));
    let rows = options.rows.unwrap_or(few_rows);
    let mode = if options.mini { Mode::Tiny } else { Mode::Base };
    let name = format!("gpu/pages/{mode}/rows{rows}");
    if !options.common.wants(&name) {
        return Ok(());
    }
    let limit = mix_limit(&model, machine, mode, [pages, tokens, rows]);
    let tokenizer = Tokenizer::from_bytes(TOKENIZER)?;
    let ocr = DeepseekOcr::from_stages(model.encoder, model.decoder, tokenizer)?;
    let engine = Engine::new(&ocr, EngineOptions::default().with_rows(rows).with_pages_together(PAGES[1]))?;
    let page = page();
    let length = |page: usize| (SHARES[page % SHARES.len()] * tokens as f64).round().max(1.0) as usize;
    let read = |page: &Page, index: usize| {
        let request = Request::new(page).with_mode(mode).with_no_repeat(NoRepeat::Off);
        Ok(engine.submit(request.with_max_new_tokens(length(index)))?.finish()?.ids().len())
    };
    // The first compiles kernels.
    read(&page, 0)?;
    let start = Instant::now();
    let written = thread::scope(|scope| {
        let readers: Vec<_> = (0..pages)
            .map(|index| {
                scope.spawn({
                    let (read, page) = (&read, &page);
                    move || read(page, index)
                })
            })
            .collect();
        let read = readers.into_iter().map(|reader| reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?);
        read.sum::<Result<usize>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    match limit {
        Some(limit) => report.time(&name, seconds, limit),
        None => report.plain_time(&name, seconds),
    }
    report.value(&format!("{name}/pages-per-second"), pages as f64 / seconds);
    report.value(&format!("{name}/tokens-per-second"), written as f64 / seconds);
    Ok(())
}

/// Every page encoded and its prompt read, and full batches stepped until all tokens are there.
fn mix_limit(model: &Model, machine: &Machine, mode: Mode, [pages, tokens, rows]: [usize; 3]) -> Option<f64> {
    let (config, bits) = (model.decoder.config(), model.format.bits());
    let limit = |work: Work| machine.limit(work, model.format);
    let vision = limit(EncoderCost(model.config.as_ref()?).view(mode.geometry().page_side));
    let prompt = limit(Work::prefill(config, TEXT + mode.vision_tokens(PAGE[0], PAGE[1]), bits));
    let steps = (pages * tokens) as f64 / rows as f64;
    Some(pages as f64 * (vision + prompt) + steps * limit(Work::step(config, rows, bits)))
}

/// Token ids that are spread over the vocabulary.
fn ids(config: &DecoderConfig, count: usize, seed: u32) -> Vec<u32> {
    let spread = |i: u32| (i ^ seed << 16).wrapping_mul(2_654_435_761) % config.vocab as u32;
    (1..=count as u32).map(spread).collect()
}

/// A page of noise.
fn page() -> Page {
    let noise = |x: u32, y: u32| (x ^ y << 11).wrapping_mul(2_654_435_761).to_be_bytes();
    Page::from(image::RgbImage::from_fn(PAGE[0], PAGE[1], |x, y| {
        let [r, g, b, _] = noise(x, y);
        image::Rgb([r, g, b])
    }))
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
