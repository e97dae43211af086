//! Pages as numbers: what a step of training reads.

use crate::{
    corpus::Corpus,
    curriculum::{Bucket, Window},
    layout::{FONTS, Grid, Widths},
    pages::{COLUMNS, Drawing, Drawn, Layout, TOKEN},
    random::Random,
    recipe::{Arrangement, Recipe},
};
use anyhow::Result;
use deepseek_ocr::{Font, Task, Tokenizer};
use std::{collections::BTreeSet, ops::Range, sync::mpsc, thread};

/// Batches that are ready before they are needed.
const READY: usize = 3;

/// Blank cells that the auxiliary losses look at, for each that is not.
const BLANKS: f64 = 0.3;

/// Keeps the pages of a run apart from those that it is judged by.
const HELD_OUT_SEED: u64 = 0x5eed;

/// The classes of the auxiliary losses: the printable characters of ASCII, and the end of a paragraph in blocks.
pub(crate) const CLASSES: usize = 96;

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
    /// Each page's text, closed by the end's token.
    pub texts: Vec<Vec<u32>>,
    /// Which of the texts' tokens the decoder is asked for, in their order; of a text that is shorter, those that it has.
    pub asked: Vec<usize>,
    /// The cell of its page where each of the texts' tokens stands, as those of `cells` are counted; one behind all for an end that
    /// stands below the page. Empty if it is not known.
    pub stands: Vec<Vec<usize>>,
    /// Cells of `[pages, rows, COLUMNS, lines * characters]` and their classes.
    pub cells: Vec<(usize, u8)>,
    /// How many cells the pages have.
    pub all_cells: usize,
    /// Cells of a vision token.
    pub grid: usize,
    /// Whether the cells of a vision token hold one character each, which follow each other in the text.
    pub in_blocks: bool,
}

/// How much there is of what losses are means of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Totals {
    pub pages: usize,
    pub tokens: usize,
    pub cells: usize,
}

impl Window {
    /// Which tokens are asked for, of texts whose longest has so many.
    fn draw(self, longest: usize, random: &mut Random) -> Vec<usize> {
        let within = self.within.min(longest);
        let length = self.tokens.div_ceil(self.parts.max(1)).min(within);
        let starts = (0..if length == 0 { 0 } else { self.parts.max(1) }).map(|_| random.below(within - length + 1));
        let asked: BTreeSet<usize> = starts.flat_map(|start| start..start + length).collect();
        asked.into_iter().collect()
    }
}

impl Batch {
    pub(crate) fn totals(&self) -> Totals {
        let tokens = self.counted().filter(|&counted| counted).count();
        Totals { pages: self.pages, tokens, cells: self.cells.len() }
    }

    /// Whether each of the `[pages, asked]` tokens is there.
    pub(crate) fn counted(&self) -> impl Iterator<Item = bool> {
        self.texts.iter().flat_map(|text| self.asked.iter().map(|&at| at < text.len()))
    }

    /// `[pages, asked]`: the tokens that are asked for; anything where there is none.
    pub(crate) fn targets(&self) -> Vec<i32> {
        self.texts.iter().flat_map(|text| self.asked.iter().map(|&at| token(text, at) as i32)).collect()
    }

    /// `[pages, asked]`: the cells where the tokens that are asked for stand; anything where there is none. None if it is not known.
    pub(crate) fn stood(&self) -> Option<Vec<usize>> {
        let of_page = |stands: &Vec<usize>| -> Vec<usize> {
            self.asked.iter().map(|&at| stands.get(at).copied().unwrap_or_default()).collect()
        };
        (!self.stands.is_empty()).then(|| self.stands.iter().flat_map(of_page).collect())
    }

    /// Which tokens are in front of those that are asked for. The first of a text has the prompt there.
    pub(crate) fn known(&self) -> impl Iterator<Item = usize> {
        self.asked.iter().filter_map(|at| at.checked_sub(1))
    }

    /// `[pages, known]`: these tokens.
    pub(crate) fn inputs(&self) -> Vec<u32> {
        self.texts.iter().flat_map(|text| self.known().map(|at| token(text, at))).collect()
    }

    /// For each token that is asked for, those of its share: a block's characters are in so many. As many as the largest share has,
    /// and which are there. None if there are no blocks.
    pub(crate) fn shares(&self, shares: usize) -> Vec<(i32, bool)> {
        if !self.in_blocks {
            return Vec::new();
        }
        let block = self.grid;
        let share_of = move |at: usize| {
            let share = at % block * shares / block;
            let [from, to] = [share, share + 1].map(|share| at - at % block + (share * block).div_ceil(shares));
            (from..from + block.div_ceil(shares)).map(move |next| (next, next < to))
        };
        let of_text = |text: &Vec<u32>| -> Vec<(i32, bool)> {
            let members = self.asked.iter().flat_map(|&at| share_of(at));
            members.map(|(next, inside)| (token(text, next) as i32, inside && next < text.len())).collect()
        };
        self.texts.iter().flat_map(of_text).collect()
    }

    /// The pages in so many parts, as even as can be; fewer if there are fewer pages.
    pub(crate) fn parts(&self, count: usize) -> Vec<Self> {
        let count = count.clamp(1, self.pages);
        (0..count).map(|part| self.part(part * self.pages / count..(part + 1) * self.pages / count)).collect()
    }

    fn part(&self, pages: Range<usize>) -> Self {
        let [pixels, cells] = [&self.pixels.len(), &self.all_cells].map(|count| count / self.pages);
        let first = pages.start * cells;
        let inside = |(cell, _): &&(usize, u8)| (first..pages.end * cells).contains(cell);
        Self {
            pages: pages.len(),
            pixels: self.pixels[pages.start * pixels..pages.end * pixels].to_vec(),
            texts: self.texts[pages.clone()].to_vec(),
            stands: self.stands.get(pages.clone()).unwrap_or_default().to_vec(),
            asked: self.asked.clone(),
            cells: self.cells.iter().filter(inside).map(|(cell, class)| (cell - first, *class)).collect(),
            all_cells: pages.len() * cells,
            prompt: self.prompt.clone(),
            ..*self
        }
    }
}

/// A token of a text; what stands behind its end is not counted.
fn token(text: &[u32], at: usize) -> u32 {
    text.get(at).copied().unwrap_or_default()
}

/// Draws the batches of a recipe.
pub(crate) struct Source {
    recipe: Recipe,
    corpus: Corpus,
    tokenizer: Tokenizer,
    prompts: Vec<(Vec<u32>, f64)>,
    /// Rows of the whole view.
    native: usize,
    /// Those of text that flows; none if there is no such text.
    fonts: Vec<(Font, Widths)>,
}

impl Source {
    pub(crate) fn new(recipe: &Recipe, corpus: Corpus, tokenizer: Tokenizer, native: usize) -> Result<Self> {
        let prompt = |(task, weight): (&String, &f64)| {
            let text = task.parse::<Task>()?.prompt();
            let after = text.trim().split("<image>").last().unwrap_or_default();
            Ok((tokenizer.encode(after)?, *weight))
        };
        let prompts = recipe.tasks.iter().map(prompt).collect::<Result<_>>()?;
        let mut batches = recipe.stages.iter().flat_map(|stage| &stage.batches);
        let wanted = batches.any(|bucket| bucket.flow.is_some());
        let fonts = FONTS.iter().filter(|_| wanted).map(|(_, font)| Ok((font(), Widths::measure(&font())?)));
        let fonts = fonts.collect::<Result<_>>()?;
        Ok(Self { recipe: recipe.clone(), corpus, tokenizer, prompts, native, fonts })
    }

    /// The batch of a step.
    pub(crate) fn batch(&self, step: usize) -> Result<Batch> {
        let mut random = Random::new(self.recipe.seed, step as u64);
        let bucket = self.recipe.bucket(step, &mut random);
        self.draw(bucket, self.recipe.shares(step), &mut random)
    }

    /// Pages that are always the same, with the shares of strings and of filled pages that the recipe has for all of its stages.
    pub(crate) fn sample(&self, bucket: Bucket) -> Result<Batch> {
        let mut random = Random::new(HELD_OUT_SEED, bucket.rows as u64);
        self.draw(bucket, [self.recipe.strings, self.recipe.full], &mut random)
    }

    fn draw(&self, bucket: Bucket, [strings, full]: [f64; 2], random: &mut Random) -> Result<Batch> {
        let Bucket { rows, pages, .. } = bucket;
        let arrangement = self.recipe.arrangement;
        let density = bucket.density.unwrap_or(self.recipe.density);
        let layout = match bucket.flow {
            Some(flow) => Layout::Flow(flow, &self.fonts),
            None => Layout::Grid(density, arrangement),
        };
        let in_blocks = bucket.flow.is_none() && arrangement == Arrangement::Blocks && density == self.recipe.density;
        let drawing = Drawing { corpus: &self.corpus, layout, strings, full };
        let grid = Grid(self.recipe.density);
        let at = [random.below(self.native - rows + 1), 0];
        let prompt = self.prompts[random.weighted(self.prompts.iter().map(|(_, weight)| *weight))].0.clone();
        let mut pixels = Vec::with_capacity(pages * rows * COLUMNS * TOKEN * TOKEN);
        let (mut texts, mut stands, mut cells) = (Vec::new(), Vec::new(), Vec::new());
        for page in 0..pages {
            let drawn = drawing.draw(rows, random)?;
            pixels.extend(drawn.pixels.iter().map(|&pixel| f32::from(pixel) / 127.5 - 1.0));
            let first = page * rows * COLUMNS * grid.cells();
            let found = self.cells(&drawn, rows, in_blocks, random);
            cells.extend(found.into_iter().map(|(cell, class)| (first + cell, class)));
            let mut ids = self.tokenizer.encode(&drawn.text)?;
            ids.push(self.tokenizer.eos());
            if ids.len() == drawn.spots.len() {
                stands.push(drawn.spots.iter().map(|&spot| grid.cell(spot, rows)).collect());
            }
            texts.push(ids);
        }
        // Where a token is not a character, it is not known where it stands.
        let stands = if stands.len() == pages { stands } else { Vec::new() };
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let asked = bucket.window.map_or_else(|| (0..longest).collect(), |window| window.draw(longest, random));
        let all_cells = pages * rows * COLUMNS * grid.cells();
        Ok(Batch {
            pages,
            rows,
            at,
            pixels,
            prompt,
            texts,
            asked,
            stands,
            cells,
            all_cells,
            grid: grid.cells(),
            in_blocks,
        })
    }

    /// The cells of a page that the auxiliary losses look at: all with a character, some of those with a space.
    fn cells(&self, drawn: &Drawn, rows: usize, in_blocks: bool, random: &mut Random) -> Vec<(usize, u8)> {
        let grid = Grid(self.recipe.density);
        let mut cells = Vec::new();
        for (character, &spot) in drawn.text.bytes().zip(&drawn.spots) {
            let class = match character {
                // In blocks it is drawn.
                b'\n' if in_blocks => CLASSES as u8 - 1,
                b'\n' => continue,
                _ => character.clamp(b' ', b'~') - b' ',
            };
            for cell in grid.covered(spot, rows) {
                if class > 0 || random.fraction() < BLANKS {
                    cells.push((cell, class));
                }
            }
        }
        cells
    }

    /// Draws the batches from a step on, on a thread of its own.
    pub(crate) fn feed(self, from: usize) -> mpsc::Receiver<Result<Batch>> {
        let (sender, receiver) = mpsc::sync_channel(READY);
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

#[cfg(test)]
mod tests;
