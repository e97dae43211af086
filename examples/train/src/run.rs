//! A run: the loop of steps, with states on the disk and lines in the log.

use crate::{
    batch::{Batch, Source},
    corpus::{Corpus, Split},
    curriculum::Bucket,
    draw::Redraw,
    log::{Averages, Log},
    lora::Adapters,
    network::{Figures, Network},
    optimizer::{Collect, Optimizer, Put, Slopes, Values},
    parameters::Track,
    random,
    recipe::{Precision, Recipe, Start},
    state::{self, Progress},
};
use anyhow::{Context, Result, ensure};
use burn::tensor::{DType, Device, Tensor};
use deepseek_ocr::{DeepseekOcr, Tokenizer};
use deepseek_ocr_core::Checkpoint;
use deepseek_ocr_decoder::Decoder;
use deepseek_ocr_encoder::Encoder;
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

/// The recipe's name in a run's folder.
pub(crate) const RECIPE: &str = "recipe.json";

/// Pages of the batch by which a run is judged.
const JUDGED_PAGES: usize = 4;

/// How often things happen, in steps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Until a line of the log.
    pub log: usize,
    /// Until a state is saved and the run is judged by pages that were held out.
    pub save: usize,
    /// The step after which to leave off, if it is before the recipe's end.
    pub stop: Option<usize>,
}

/// A model that learns.
pub(crate) struct Trainer {
    pub network: Network,
    pub optimizer: Optimizer,
    recipe: Recipe,
    /// One thread each; none on a GPU, where a batch is computed whole.
    pools: Vec<ThreadPool>,
}

impl Trainer {
    /// The model with which a recipe begins: drawn or read on the CPU, so that it is the same on every device.
    pub(crate) fn new(recipe: &Recipe, device: &Device) -> Result<Self> {
        let mut stages = match recipe.start {
            Start::Scratch => untrained(&recipe.model)?,
            Start::Warm => trained(&recipe.model)?,
        };
        if let Some(folder) = &recipe.encoder {
            stages.0 = trained(folder)?.0;
        }
        let tokenizer = tokenizer(recipe)?;
        let mut network = {
            let _alone = random::alone();
            Device::flex().seed(recipe.seed);
            Network::new(stages, recipe.density, tokenizer.bos()).map(&mut Redraw(&recipe.draw))
        };
        if let Some(lora) = &recipe.lora {
            network.adapters = Adapters::new(lora, &network.decoder, recipe.seed)?;
        }
        let has = recipe.precision == Precision::F32 || device.supports_dtype(DType::BF16);
        ensure!(has, "precision: this device has no bf16");
        let network = network.with_precision(recipe.precision).on(device);
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build();
        let threads = if *device == Device::flex() { recipe.threads } else { 0 };
        let pools = (0..threads).map(pool).collect::<Result<_, _>>()?;
        Ok(Self { network, optimizer: Optimizer::new(device), recipe: recipe.clone(), pools })
    }

    /// Tokens along the side of the view that the position tables are made for.
    pub(crate) fn native(&self) -> usize {
        (self.network.encoder.clip.position_embedding.lazy_shape()[0] - 1).isqrt()
    }

    /// One step.
    pub(crate) fn step(mut self, batch: &Batch, step: usize) -> (Self, Figures) {
        self.network = self.network.with_still_towers(self.recipe.are_towers_frozen(step));
        let (mut slopes, mut figures) = self.slopes(batch, step);
        figures.norm = norm(&slopes);
        if figures.norm > self.recipe.rate.clip {
            let factor = self.recipe.rate.clip / figures.norm;
            slopes.values_mut().for_each(|slope| *slope = slope.clone() * factor);
        }
        let mut values = Values::default();
        let network = self.network.map(&mut values);
        let (recipe, rate) = (&self.recipe, self.recipe.rate(step));
        let changed = self.optimizer.step(values.0, slopes, |name| rate * recipe.factor(step, name));
        self.network = network.map(&mut Put(changed));
        (self, figures)
    }

    /// The slopes of the loss that a step has of a batch, a part of the pages on each thread of the CPU.
    fn slopes(&self, batch: &Batch, step: usize) -> (Slopes, Figures) {
        let (frozen, weights) = (self.recipe.freeze(step), self.recipe.weights(step));
        let totals = batch.totals();
        let parts = batch.parts(self.pools.len());
        let slopes_of = &|part: &Batch| {
            let mut track = Track { among: self.recipe.trained(), frozen };
            let network = self.network.clone().map(&mut track);
            let outcome = network.forward(part, totals, weights);
            let mut collect = Collect { gradients: outcome.loss.backward(), found: Slopes::new() };
            network.map(&mut collect);
            (collect.found, outcome.figures)
        };
        if self.pools.is_empty() {
            return slopes_of(batch);
        }
        let found: Vec<(Slopes, Figures)> = thread::scope(|scope| {
            let parts = parts.iter().zip(&self.pools);
            let threads: Vec<_> =
                parts.map(|(part, pool)| scope.spawn(move || pool.install(move || slopes_of(part)))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a part of a step does not panic")).collect()
        });
        let add = |(mut slopes, mut figures): (Slopes, Figures), (more, of_more): (Slopes, Figures)| {
            for (name, slope) in more {
                let sum = match slopes.remove(&name) {
                    Some(sum) => sum + slope,
                    None => slope,
                };
                slopes.insert(name, sum);
            }
            figures.add(&of_more);
            (slopes, figures)
        };
        found.into_iter().fold((Slopes::new(), Figures::default()), add)
    }

    /// Figures of a batch after so many steps.
    pub(crate) fn judge(&self, batch: &Batch, steps: usize) -> Figures {
        self.network.forward(batch, batch.totals(), self.recipe.weights(steps.saturating_sub(1))).figures
    }
}

/// The stages that a model folder describes, with random weights.
fn untrained(folder: &Path) -> Result<(Encoder, Decoder)> {
    Ok(DeepseekOcr::loader(folder).with_device(&Device::flex()).untrained()?)
}

/// The stages of a model folder. All of its weights become floats, also those that it has in blocks, which could not learn.
fn trained(folder: &Path) -> Result<(Encoder, Decoder)> {
    let ((encoder, decoder), checkpoint, device) = (untrained(folder)?, Checkpoint::open(folder)?, Device::flex());
    let mut loading = checkpoint.load_on(&device);
    let stages = (loading.fill(encoder, &Encoder::NAMES)?, loading.fill(decoder, &Decoder::NAMES)?);
    loading.finish()?;
    Ok(stages)
}

/// The norm of all slopes together; the device is asked once.
fn norm(slopes: &Slopes) -> f32 {
    let squares: Vec<Tensor<1>> = slopes.values().map(|slope| slope.clone().square().sum()).collect();
    match squares.is_empty() {
        true => 0.0,
        false => Tensor::cat(squares, 0).into_data().iter::<f64>().sum::<f64>().sqrt() as f32,
    }
}

/// The tokenizer of a recipe's model.
pub(crate) fn tokenizer(recipe: &Recipe) -> Result<Tokenizer> {
    Ok(Tokenizer::open(recipe.model.join("tokenizer.json"))?)
}

/// Begins a run in `folder`, or goes on with the one that is there.
pub(crate) fn train(folder: &Path, recipe: Option<&Path>, pace: Pace, device: &Device) -> Result<()> {
    let recipe = adopt(folder, recipe)?;
    let mut trainer = Trainer::new(&recipe, device)?;
    let mut progress = Progress::default();
    if let Some(state) = state::newest(folder)? {
        (trainer.network, progress) = state::restore(&state, trainer.network, &mut trainer.optimizer)?;
    }
    let native = trainer.native();
    let source = |split| Source::new(&recipe, Corpus::open(&recipe.corpus, split)?, tokenizer(&recipe)?, native);
    let judges = judges(&recipe, &source(Split::HeldOut)?)?;
    let mut log = Log::open(folder, progress.step)?;
    let feed = source(Split::Training)?.feed(progress.step);
    let (began, before) = (Instant::now(), progress.seconds);
    let mut averages = Averages::default();
    let end = pace.stop.unwrap_or(usize::MAX).min(recipe.steps());
    while progress.step < end {
        let batch = feed.recv().context("no more batches")??;
        let figures;
        (trainer, figures) = trainer.step(&batch, progress.step);
        ensure!(figures.text.loss.is_finite() && figures.norm.is_finite(), "step {}: {figures:?}", progress.step);
        averages.add(&figures);
        progress.step += 1;
        progress.tokens += batch.totals().tokens;
        progress.seconds = before + began.elapsed().as_secs_f64();
        if progress.step.is_multiple_of(pace.log) || progress.step == end {
            log.line(&progress, recipe.rate(progress.step - 1), &averages.take())?;
        }
        if progress.step.is_multiple_of(pace.save) || progress.step == end {
            trainer.network = state::save(folder, trainer.network, &trainer.optimizer, progress)?;
            for (bucket, judge) in &judges {
                log.judged(&progress, bucket, &trainer.judge(judge, progress.step))?;
            }
        }
    }
    Ok(())
}

/// A held-out batch of each kind of pages that a recipe has, smaller pages first.
fn judges(recipe: &Recipe, source: &Source) -> Result<Vec<(Bucket, Batch)>> {
    let mut kinds: Vec<Bucket> = Vec::new();
    for bucket in recipe.stages.iter().flat_map(|stage| &stage.batches) {
        let kind = Bucket { pages: JUDGED_PAGES, weight: 1.0, window: None, ..*bucket };
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    kinds.sort_by_key(|kind| kind.rows);
    kinds.into_iter().map(|kind| Ok((kind, source.sample(kind)?))).collect()
}

/// Puts the recipe and the model's side files into the run's folder; the recipe of a run that goes on may have changed.
fn adopt(folder: &Path, recipe: Option<&Path>) -> Result<Recipe> {
    fs::create_dir_all(folder)?;
    let kept = folder.join(RECIPE);
    let recipe = Recipe::read(recipe.unwrap_or(&kept))?;
    fs::write(&kept, serde_json::to_vec_pretty(&recipe)?)?;
    for path in side_files(&recipe.model)? {
        let name = path.file_name().unwrap_or_default();
        if folder.join(name) != path {
            fs::copy(&path, folder.join(name))?;
        }
    }
    Ok(recipe)
}

/// What a model folder holds beside weights.
pub(crate) fn side_files(model: &Path) -> Result<Vec<PathBuf>> {
    let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "processor_config.json"];
    let files: Vec<PathBuf> = names.iter().map(|name| model.join(name)).filter(|path| path.is_file()).collect();
    ensure!(files.len() >= 2, "{}: no config.json or no tokenizer.json", model.display());
    Ok(files)
}

#[cfg(test)]
mod tests;
