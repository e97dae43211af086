//! What weights of 8 and 4 bits lose: a table of the next token's probabilities against those with the stored weights.
//!
//!     cargo run --release --example quantization_error -- [MODEL_FOLDER] [--page IMAGE] [--positions 2000] [--answer 400]
//!
//! Positions are forced, so that both models see the same: first what the stored weights read on a page, then random tokens.
#![allow(clippy::print_stdout)]

use anyhow::Context;
use clap::Parser;
use deepseek_ocr::{DeepseekOcr, Device, Error, Mode, NoRepeat, Page, Request, Task, Weights, decoder::Segment};
use std::path::{Path, PathBuf};

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// A folder with stored weights; by default that of the embedded mini checkpoint.
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/mini"))]
    model: PathBuf,
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page.png"))]
    page: PathBuf,
    /// Random tokens.
    #[arg(long, default_value_t = 2000)]
    positions: usize,
    /// Tokens that the stored weights may read on the page.
    #[arg(long, default_value_t = 400)]
    answer: usize,
}

/// Random tokens of one sequence.
const SEQUENCE: usize = 500;
/// Positions whose logits are held at once: with the released vocabulary 16 MB.
const AT_ONCE: usize = 32;

/// A sequence, of which the last positions are compared.
struct Forced {
    segments: Vec<Segment>,
    compared: usize,
}

/// Sums over positions.
#[derive(Default)]
struct Difference {
    positions: usize,
    agreeing: usize,
    cosine: f64,
    least_cosine: f64,
    divergence: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let stored = load(&options.model, Weights::Stored)?;
    let page = answer(&stored, &options)?;
    let random = random(&stored, options.positions);
    println!("weights  tokens  positions  mean cosine  least cosine  KL in nats  same best token");
    for weights in [Weights::Q8, Weights::Q4] {
        let model = load(&options.model, weights)?;
        for (name, forced) in [("page", std::slice::from_ref(&page)), ("random", &random)] {
            let mut sum = Difference { least_cosine: 1.0, ..Difference::default() };
            for forced in forced {
                compare(&stored, &model, forced, &mut sum)?;
            }
            let Difference { positions, agreeing, cosine, least_cosine, divergence } = sum;
            let mean = |sum: f64| sum / positions as f64;
            let (cosine, divergence, same) = (mean(cosine), mean(divergence), 100.0 * mean(agreeing as f64));
            println!(
                "{weights:7}  {name:6}  {positions:9}  {cosine:11.6}  {least_cosine:12.6}  {divergence:10.2e}  {same:14.2}%"
            );
        }
    }
    Ok(())
}

fn load(folder: &Path, weights: Weights) -> Result<DeepseekOcr, Error> {
    DeepseekOcr::loader(folder).with_device(&Device::flex()).with_weights(weights).load()
}

/// The page and what the stored weights read on it.
fn answer(model: &DeepseekOcr, options: &Options) -> anyhow::Result<Forced> {
    let page = Page::open(&options.page).with_context(|| options.page.display().to_string())?;
    let request = Request::new(&page).with_mode(Mode::Tiny).with_task(Task::FreeOcr).with_no_repeat(NoRepeat::Off);
    let transcript = model.generate(request.with_max_new_tokens(options.answer))?;
    let mut segments = model.tokenizer().prompt(&Task::FreeOcr, vec![model.encode(&page, Mode::Tiny)])?.segments;
    segments.push(Segment::Text(transcript.ids().to_vec()));
    // The last position of the prompt gives the first token.
    Ok(Forced { segments, compared: transcript.ids().len() + 1 })
}

/// Sequences of random tokens, the same in every run.
fn random(model: &DeepseekOcr, positions: usize) -> Vec<Forced> {
    let vocabulary = model.decoder().config().vocab as u64;
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % vocabulary) as u32
    };
    let lengths = (0..positions).step_by(SEQUENCE).map(|from| SEQUENCE.min(positions - from));
    let forced = |compared| Forced { segments: vec![Segment::Text((0..compared).map(|_| next()).collect())], compared };
    lengths.map(forced).collect()
}

fn compare(stored: &DeepseekOcr, model: &DeepseekOcr, forced: &Forced, sum: &mut Difference) -> anyhow::Result<()> {
    let outputs = |model: &DeepseekOcr| -> anyhow::Result<_> {
        let inputs = model.decoder().embed(&forced.segments)?;
        model.decoder().forward_all(inputs).pop().context("a decoder has layers")
    };
    let (a, b) = (outputs(stored)?, outputs(model)?);
    let end = a.dims()[0];
    for from in (end - forced.compared..end).step_by(AT_ONCE) {
        let count = AT_ONCE.min(end - from);
        let logits = |model: &DeepseekOcr, x: &burn::tensor::Tensor<2>| -> anyhow::Result<Vec<f32>> {
            Ok(model.decoder().logits(x.clone().narrow(0, from, count)).into_data().try_to_vec()?)
        };
        let (a, b) = (logits(stored, &a)?, logits(model, &b)?);
        let vocabulary = a.len() / count;
        a.chunks(vocabulary).zip(b.chunks(vocabulary)).for_each(|(a, b)| sum.add(a, b));
    }
    Ok(())
}

impl Difference {
    fn add(&mut self, a: &[f32], b: &[f32]) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        let best = |logits: &[f32]| (0..logits.len()).max_by(|&i, &j| logits[i].total_cmp(&logits[j]));
        let (p, q) = (log_probabilities(a), log_probabilities(b));
        self.positions += 1;
        self.agreeing += usize::from(best(a) == best(b));
        self.cosine += cosine;
        self.least_cosine = self.least_cosine.min(cosine);
        self.divergence += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    }
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().fold(f32::NEG_INFINITY, |most, &logit| most.max(logit));
    let shifted = |logit: &f32| f64::from(logit - most);
    let total: f64 = logits.iter().map(|logit| shifted(logit).exp()).sum();
    logits.iter().map(|logit| shifted(logit) - total.ln()).collect()
}
