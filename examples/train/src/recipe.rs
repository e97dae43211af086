//! What a run does: read from a JSON file, and kept with the run.

use crate::{
    curriculum::{Bucket, Stage},
    draw::Draw,
    lora::Adapters,
    parameters::fits,
    random::Random,
};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The learning rate that a decay ends at, over the one that it begins with.
const LOWEST_RATE: f64 = 0.02;

/// Everything that decides what a run computes.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    pub seed: u64,
    /// A model folder: `config.json`, `tokenizer.json`, and weights to start from.
    pub model: PathBuf,
    pub start: Start,
    /// First weights that are drawn otherwise than the library does, by beginnings or patterns of names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub draw: BTreeMap<String, Draw>,
    /// A model folder whose vision stage the run begins with, whatever `start` says of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<PathBuf>,
    /// A folder of `.txt` files.
    pub corpus: PathBuf,
    /// Lines and characters to a vision token.
    pub density: [u32; 2],
    /// Whether lines run over the page or each vision token is filled before the next.
    #[serde(default)]
    pub arrangement: Arrangement,
    /// What the model is asked, as [`deepseek_ocr::Task`] is read from text, and how often.
    #[serde(default = "tasks")]
    pub tasks: BTreeMap<String, f64>,
    /// The share of pages with random strings in place of prose.
    pub strings: f64,
    /// The share of pages that are filled with lines.
    pub full: f64,
    pub rate: Rate,
    pub weights: Weights,
    /// Parameters that stay as they are: beginnings of names, or patterns with `*`.
    #[serde(default)]
    pub freeze: Vec<String>,
    /// What the learning rate is multiplied with for parameters of these names: beginnings, or patterns with `*`; the first that fits counts.
    #[serde(default)]
    pub rates: BTreeMap<String, f64>,
    /// Trains small changes to some of the decoder's matrices, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// What products are of.
    #[serde(default)]
    pub precision: Precision,
    /// Threads that a batch is divided among. Sums are made in another order by more or fewer.
    pub threads: usize,
    pub stages: Vec<Stage>,
}

/// What the products of training are of; parameters, sums and all else are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// Numbers of 32 bits.
    #[default]
    F32,
    /// Numbers rounded to bf16, forwards and backwards.
    Bf16,
}

/// How text lies on pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Arrangement {
    /// In lines over the whole page.
    #[default]
    Lines,
    /// In blocks, each a vision token.
    Blocks,
}

/// Where a run's first weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Start {
    /// The model folder's.
    Warm,
    /// Drawn at random.
    Scratch,
}

/// Changes of low rank: `W + alpha / rank * B A`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lora {
    /// The matrices: beginnings of names, or patterns with `*`.
    pub matrices: Vec<String>,
    pub rank: usize,
    pub alpha: f32,
}

/// The learning rate by step.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    pub highest: f64,
    /// Steps until then.
    pub warm_up: usize,
    /// From this step on it falls, along half a cosine, until the end.
    pub decay_from: usize,
    /// The largest norm of all gradients together.
    pub clip: f32,
}

/// What the parts of the loss count beside the text's.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Weights {
    /// Even use of the experts.
    pub balance: f32,
    /// Each character from the patches of its token.
    pub patches: f32,
    /// Each character from its token.
    pub tokens: f32,
    /// Where the next character stands, from the outputs of the decoder's blocks but the last; where text is in blocks.
    #[serde(default)]
    pub places: f32,
    /// That half of the heads of the decoder's blocks but the first look at the token of the next character; where text is in blocks.
    #[serde(default)]
    pub looks: f32,
    /// The characters that stand around the next one in its token, as many as there are for each attention head, from the decoder's
    /// last states; where text is in blocks.
    #[serde(default)]
    pub shares: f32,
}

fn tasks() -> BTreeMap<String, f64> {
    [("free-ocr", 0.7), ("markdown", 0.15), ("ocr-image", 0.15)].map(|(task, weight)| (task.to_owned(), weight)).into()
}

impl Recipe {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let recipe: Self = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let rises = recipe.stages.windows(2).all(|pair| pair[0].until < pair[1].until);
        ensure!(rises && !recipe.stages.is_empty(), "stages: each should end later than the one before");
        ensure!(recipe.threads > 0, "threads: at least 1");
        recipe.stages.iter().flat_map(|stage| &stage.batches).try_for_each(Bucket::check)?;
        ensure!(recipe.stages.iter().all(|stage| !stage.batches.is_empty()), "stages: each needs batches");
        ensure!(recipe.draw.is_empty() || recipe.start == Start::Scratch, "draw: the start should be from scratch");
        ensure!(recipe.draw.values().all(|draw| draw.common.abs() <= 1.0), "draw: common should be from -1 to 1");
        if let Some(lora) = &recipe.lora {
            ensure!(!lora.matrices.is_empty() && lora.rank > 0, "lora: at least one matrix, and a rank of at least 1");
            ensure!(lora.alpha.is_finite() && lora.alpha > 0.0, "lora: alpha should be more than 0");
            ensure!(recipe.start == Start::Warm, "lora: it needs weights to change, so the start should be warm");
            let frozen = recipe.stages.iter().any(|stage| stage.freeze.is_some());
            ensure!(
                recipe.freeze.is_empty() && !frozen,
                "freeze: beside lora it should be empty, all else is frozen then"
            );
        }
        Ok(recipe)
    }

    /// How the names of all that is trained begin.
    pub(crate) fn trained(&self) -> &'static str {
        if self.lora.is_some() { Adapters::PREFIX } else { "" }
    }

    /// Whether none of the two towers learns in a step.
    pub(crate) fn are_towers_frozen(&self, step: usize) -> bool {
        let frozen = |tower: &&str| self.freeze(step).iter().any(|name| name == tower);
        ["model.sam_model", "model.vision_model"].iter().all(frozen)
    }

    /// Parameters that stay as they are in a step.
    pub(crate) fn freeze(&self, step: usize) -> &[String] {
        self.stage(step).and_then(|stage| stage.freeze.as_ref()).unwrap_or(&self.freeze)
    }

    /// What the parts of the loss count in a step.
    pub(crate) fn weights(&self, step: usize) -> Weights {
        self.stage(step).and_then(|stage| stage.weights).unwrap_or(self.weights)
    }

    /// The shares of pages with random strings and of those that are filled, in a step.
    pub(crate) fn shares(&self, step: usize) -> [f64; 2] {
        let stage = self.stage(step);
        let (strings, full) = (stage.and_then(|stage| stage.strings), stage.and_then(|stage| stage.full));
        [strings.unwrap_or(self.strings), full.unwrap_or(self.full)]
    }

    /// The number of steps.
    pub(crate) fn steps(&self) -> usize {
        self.stages.last().map_or(0, |stage| stage.until)
    }

    /// The stage of a step.
    fn stage(&self, step: usize) -> Option<&Stage> {
        self.stages.iter().find(|stage| step < stage.until).or(self.stages.last())
    }

    /// The batch of a step.
    pub(crate) fn bucket(&self, step: usize, random: &mut Random) -> Bucket {
        let batches = self.stage(step).map_or(&[][..], |stage| &stage.batches);
        batches[random.weighted(batches.iter().map(|bucket| bucket.weight))]
    }

    /// What a parameter's learning rate is multiplied with in a step.
    pub(crate) fn factor(&self, step: usize, name: &str) -> f64 {
        let rates = self.stage(step).and_then(|stage| stage.rates.as_ref()).unwrap_or(&self.rates);
        rates.iter().find(|(pattern, _)| fits(pattern, name)).map_or(1.0, |(_, factor)| *factor)
    }

    /// The learning rate of a step.
    pub(crate) fn rate(&self, step: usize) -> f64 {
        let Rate { highest, warm_up, decay_from, .. } = self.rate;
        let rising = ((step + 1) as f64 / warm_up.max(1) as f64).min(1.0);
        let left = self.steps().saturating_sub(decay_from).max(1);
        let done = (step.saturating_sub(decay_from) as f64 / left as f64).min(1.0);
        let falling = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
        highest * rising * (LOWEST_RATE + (1.0 - LOWEST_RATE) * falling)
    }
}
