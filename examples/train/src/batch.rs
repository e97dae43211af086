//! Pages as numbers: what a step of training reads.

use crate::{
    corpus::Corpus,
    pages::{COLUMNS, Drawing, TOKEN},
    random::Random,
    recipe::{Bucket, Recipe},
};
use anyhow::Result;
use deepseek_ocr::{Task, Tokenizer};
use std::{ops::Range, sync::mpsc, thread};

/// Batches that are ready before they are needed.
const AHEAD: usize = 3;

/// Blank cells that the auxiliary losses look at, for each that is not.
const BLANKS: f64 = 0.3;

/// Keeps the pages of a run apart from those that it is judged by.
const HELD_OUT_SEED: u64 = 0x5eed;

/// The classes of the auxiliary losses: the printable characters of ASCII.
pub(crate) const CLASSES: usize = 95;

/// Pages of one size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    pub pages: usize,
    /// Height in tokens.
    pub rows: usize,
    /// Where in the whole view the pages lie, in tokens.
    pub at: [usize; 2],
    /// `[pages, 64 * rows, 64 * COLUMNS]`, normalised.
    pub pixels: Vec<f32>,
    /// Between the page and its text.
    pub prompt: Vec<u32>,
    /// `[pages, length]`: the text's tokens, the end's and as many more as it takes to fill up.
    pub ids: Vec<u32>,
    pub length: usize,
    /// Tokens of each page, the end's among them.
    pub lengths: Vec<usize>,
    /// Cells of `[pages, rows, COLUMNS, lines * characters]` and their classes.
    pub cells: Vec<(usize, u8)>,
    /// How many cells the pages have.
    pub all_cells: usize,
}

/// How much there is of what losses are means of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    pub pages: usize,
    pub tokens: usize,
    pub cells: usize,
}

impl Batch {
    pub(crate) fn totals(&self) -> Totals {
        Totals { pages: self.pages, tokens: self.lengths.iter().sum(), cells: self.cells.len() }
    }

    /// The pages in so many parts, as even as can be; fewer if there are fewer pages.
    pub(crate) fn parts(&self, count: usize) -> Vec<Self> {
        let count = count.clamp(1, self.pages);
        (0..count).map(|part| self.part(part * self.pages / count..(part + 1) * self.pages / count)).collect()
    }

    fn part(&self, pages: Range<usize>) -> Self {
        let [pixels, cells] = [&self.pixels.len(), &self.all_cells].map(|count| count / self.pages);
        let lengths = self.lengths[pages.clone()].to_vec();
        let length = lengths.iter().copied().max().unwrap_or(0);
        let rows = self.ids.chunks(self.length).skip(pages.start).take(pages.len());
        let first = pages.start * cells;
        let inside = |(cell, _): &&(usize, u8)| (first..pages.end * cells).contains(cell);
        Self {
            pages: pages.len(),
            pixels: self.pixels[pages.start * pixels..pages.end * pixels].to_vec(),
            ids: rows.flat_map(|row| row[..length].iter().copied()).collect(),
            length,
            lengths,
            cells: self.cells.iter().filter(inside).map(|(cell, class)| (cell - first, *class)).collect(),
            all_cells: pages.len() * cells,
            prompt: self.prompt.clone(),
            ..*self
        }
    }
}

/// Draws the batches of a recipe.
pub(crate) struct Source {
    recipe: Recipe,
    corpus: Corpus,
    tokenizer: Tokenizer,
    prompts: Vec<(Vec<u32>, f64)>,
    /// Rows of the whole view.
    native: usize,
}

impl Source {
    pub(crate) fn new(recipe: &Recipe, corpus: Corpus, tokenizer: Tokenizer, native: usize) -> Result<Self> {
        let tasks = [(Task::FreeOcr, 0.7), (Task::Markdown, 0.15), (Task::OcrImage, 0.15)];
        let prompt = |(task, weight): (Task, f64)| {
            let text = task.prompt();
            let after = text.trim().split("<image>").last().unwrap_or_default();
            Ok((tokenizer.encode(after)?, weight))
        };
        let prompts = tasks.into_iter().map(prompt).collect::<Result<_>>()?;
        Ok(Self { recipe: recipe.clone(), corpus, prompts, native, tokenizer })
    }

    /// The batch of a step.
    pub(crate) fn batch(&self, step: usize) -> Result<Batch> {
        let mut random = Random::new(self.recipe.seed, step as u64);
        let bucket = self.recipe.bucket(step, &mut random);
        self.draw(bucket, &mut random)
    }

    /// Filled pages that are always the same.
    pub(crate) fn sample(&self, bucket: Bucket) -> Result<Batch> {
        let mut random = Random::new(HELD_OUT_SEED, bucket.rows as u64);
        self.draw(bucket, &mut random)
    }

    fn draw(&self, bucket: Bucket, random: &mut Random) -> Result<Batch> {
        let Bucket { rows, pages, .. } = bucket;
        let Recipe { strings, full, .. } = self.recipe;
        let density = bucket.density.unwrap_or(self.recipe.density);
        // The auxiliary heads are made for one density.
        let heads_read = density == self.recipe.density;
        let drawing = Drawing { corpus: &self.corpus, density, strings, full };
        let at = [random.below(self.native - rows + 1), 0];
        let prompt = self.prompts[random.weighted(self.prompts.iter().map(|(_, weight)| *weight))].0.clone();
        let mut pixels = Vec::with_capacity(pages * rows * COLUMNS * TOKEN * TOKEN);
        let (mut texts, mut cells) = (Vec::new(), Vec::new());
        for page in 0..pages {
            let drawn = drawing.draw(rows, random)?;
            pixels.extend(drawn.pixels.iter().map(|&pixel| f32::from(pixel) / 127.5 - 1.0));
            if heads_read {
                self.cells(&drawn.lines, [page, rows], random, &mut cells);
            }
            let mut ids = self.tokenizer.encode(&drawn.lines.join("\n"))?;
            ids.push(self.tokenizer.eos());
            texts.push(ids);
        }
        let lengths: Vec<usize> = texts.iter().map(Vec::len).collect();
        let length = lengths.iter().copied().max().unwrap_or(0);
        let filled = |mut ids: Vec<u32>| {
            ids.resize(length, self.tokenizer.eos());
            ids
        };
        let ids = texts.into_iter().flat_map(filled).collect();
        let all_cells = pages * rows * COLUMNS * (density[0] * density[1]) as usize;
        Ok(Batch { pages, rows, at, pixels, prompt, ids, length, lengths, cells, all_cells })
    }

    /// The cells of a page that the auxiliary losses look at: all with a character, some without.
    fn cells(&self, lines: &[String], [page, rows]: [usize; 2], random: &mut Random, into: &mut Vec<(usize, u8)>) {
        let [high, wide] = self.recipe.density.map(|count| count as usize);
        for line in 0..rows * high {
            let text = lines.get(line).map_or(&[][..], |line| line.as_bytes());
            for column in 0..COLUMNS * wide {
                let character = text.get(column).copied().unwrap_or(b' ');
                if character == b' ' && random.fraction() >= BLANKS {
                    continue;
                }
                let token = (page * rows + line / high) * COLUMNS + column / wide;
                let cell = token * high * wide + line % high * wide + column % wide;
                into.push((cell, character.clamp(b' ', b'~') - b' '));
            }
        }
    }

    /// Draws the batches from a step on, on a thread of its own.
    pub(crate) fn feed(self, from: usize) -> mpsc::Receiver<Result<Batch>> {
        let (sender, receiver) = mpsc::sync_channel(AHEAD);
        thread::spawn(move || {
            let steps = from..self.recipe.steps();
            // It ends when nobody takes batches any more.
            for step in steps {
                if sender.send(self.batch(step)).is_err() {
                    break;
                }
            }
        });
        receiver
    }
}
