//! A run: the loop of steps, with states on the disk and lines in the log.

use crate::{
    batch::{Batch, Source},
    corpus::{Corpus, Split},
    log::{Averages, Log},
    network::{Network, Outcome},
    optimizer::{Collect, Optimizer},
    recipe::{Bucket, Recipe, Start},
    state::{self, Progress},
};
use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use deepseek_ocr::{DeepseekOcr, Tokenizer};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
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
}

/// What a step gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub loss: f32,
    pub accuracy: f32,
    pub patches: f32,
    pub patches_accuracy: f32,
    pub tokens: f32,
    pub tokens_accuracy: f32,
    /// The norm of all gradients before they were clipped.
    pub norm: f32,
}

impl Trainer {
    /// The model with which a recipe begins.
    pub(crate) fn new(recipe: &Recipe) -> Result<Self> {
        let loader = DeepseekOcr::loader(&recipe.model).with_device(&Device::flex());
        let stages = match recipe.start {
            Start::Scratch => loader.untrained()?,
            Start::Warm => {
                let ocr = loader.load()?;
                (ocr.encoder().clone(), ocr.decoder().clone())
            }
        };
        let tokenizer = tokenizer(recipe)?;
        Device::flex().seed(recipe.seed);
        let network = Network::new(stages, recipe.density, tokenizer.bos());
        Ok(Self { network, optimizer: Optimizer::new(&recipe.freeze), recipe: recipe.clone() })
    }

    /// Tokens along the side of the view that the position tables are made for.
    pub(crate) fn native(&self) -> usize {
        (self.network.encoder.clip.position_embedding.lazy_shape()[0] - 1).isqrt()
    }

    /// One step.
    pub(crate) fn step(mut self, batch: &Batch, step: usize) -> (Self, Figures) {
        let outcome = self.network.forward(batch, self.recipe.weights);
        let mut gradients = outcome.loss.backward();
        let mut collect = Collect { gradients: &mut gradients, found: BTreeMap::new(), squares: 0.0 };
        let network = self.network.map(&mut collect);
        let (mut found, norm) = (collect.found, collect.squares.sqrt() as f32);
        if norm > self.recipe.rate.clip {
            found.values_mut().for_each(|gradient| *gradient = gradient.clone() * (self.recipe.rate.clip / norm));
        }
        self.network = network.map(&mut self.optimizer.step(found, self.recipe.rate(step)));
        let figures = figures(&outcome, norm);
        (self, figures)
    }
}

fn figures(Outcome { text, patches, tokens, .. }: &Outcome, norm: f32) -> Figures {
    Figures {
        loss: text.loss,
        accuracy: text.accuracy,
        patches: patches.loss,
        patches_accuracy: patches.accuracy,
        tokens: tokens.loss,
        tokens_accuracy: tokens.accuracy,
        norm,
    }
}

/// The tokenizer of a recipe's model.
pub(crate) fn tokenizer(recipe: &Recipe) -> Result<Tokenizer> {
    Ok(Tokenizer::open(recipe.model.join("tokenizer.json"))?)
}

/// Begins a run in `folder`, or goes on with the one that is there.
pub(crate) fn train(folder: &Path, recipe: Option<&Path>, pace: Pace) -> Result<()> {
    let recipe = adopt(folder, recipe)?;
    let mut trainer = Trainer::new(&recipe)?;
    let mut progress = Progress::default();
    if let Some(state) = state::newest(folder)? {
        let Trainer { network, mut optimizer, recipe } = trainer;
        let (network, found) = state::restore(&state, network, &mut optimizer)?;
        (trainer, progress) = (Trainer { network, optimizer, recipe }, found);
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
        ensure!(figures.loss.is_finite() && figures.norm.is_finite(), "step {}: {figures:?}", progress.step);
        averages.add(&figures);
        progress.step += 1;
        progress.tokens += batch.tokens();
        progress.seconds = before + began.elapsed().as_secs_f64();
        if progress.step.is_multiple_of(pace.log) || progress.step == end {
            log.line(&progress, recipe.rate(progress.step - 1), &averages.take())?;
        }
        if progress.step.is_multiple_of(pace.save) || progress.step == end {
            let Trainer { network, optimizer, recipe } = trainer;
            let network = state::save(folder, network, &optimizer, progress)?;
            trainer = Trainer { network, optimizer, recipe };
            for (rows, judge) in &judges {
                let outcome = trainer.network.forward(judge, trainer.recipe.weights);
                log.judged(&progress, *rows, &figures_of(&outcome))?;
            }
        }
    }
    Ok(())
}

fn figures_of(outcome: &Outcome) -> Figures {
    figures(outcome, 0.0)
}

/// Held-out batches of the smallest and the largest pages of a recipe.
fn judges(recipe: &Recipe, source: &Source) -> Result<Vec<(usize, Batch)>> {
    let mut rows: Vec<usize> = recipe.stages.iter().flat_map(|stage| stage.batches.iter().map(|b| b.rows)).collect();
    rows.sort_unstable();
    rows.dedup();
    let batch = |rows| Ok((rows, source.sample(Bucket { rows, pages: JUDGED_PAGES, weight: 1.0 })?));
    rows.into_iter().map(batch).collect()
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
