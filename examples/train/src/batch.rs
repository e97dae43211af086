//! Pages as numbers: what a step of training reads.

use crate::{
    corpus::Corpus,
    pages::{COLUMNS, Drawing, TOKEN},
    random::Random,
    recipe::{Arrangement, Bucket, Recipe, Window},
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
    /// The first of the text's tokens that is asked for.
    pub from: usize,
    /// `[pages, lead + length]`: the token before that one, if there is one; the text's tokens, the end's and as many more as it takes
    /// to fill up.
    pub ids: Vec<u32>,
    pub length: usize,
    /// Tokens of each page that are asked for, the end's among them.
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

impl Window {
    /// Where it begins in texts whose longest has so many tokens, and its length.
    fn draw(self, longest: usize, random: &mut Random) -> (usize, usize) {
        let length = self.tokens.min(longest);
        let last = self.within.min(longest).saturating_sub(length);
        (if length == 0 { 0 } else { random.below(last + 1) }, length)
    }
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

    /// Tokens of the text that are given before the first that is asked for.
    pub(crate) fn lead(&self) -> usize {
        self.from.min(1)
    }

    /// Each page's `lead + length` tokens.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.ids.chunks((self.lead() + self.length).max(1))
    }

    fn part(&self, pages: Range<usize>) -> Self {
        let [pixels, cells] = [&self.pixels.len(), &self.all_cells].map(|count| count / self.pages);
        let lengths = self.lengths[pages.clone()].to_vec();
        let length = lengths.iter().copied().max().unwrap_or(0);
        let rows = self.rows().skip(pages.start).take(pages.len());
        let first = pages.start * cells;
        let inside = |(cell, _): &&(usize, u8)| (first..pages.end * cells).contains(cell);
        Self {
            pages: pages.len(),
            pixels: self.pixels[pages.start * pixels..pages.end * pixels].to_vec(),
            ids: rows.flat_map(|row| row[..self.lead() + length].iter().copied()).collect(),
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
        let prompt = |(task, weight): (&String, &f64)| {
            let text = task.parse::<Task>()?.prompt();
            let after = text.trim().split("<image>").last().unwrap_or_default();
            Ok((tokenizer.encode(after)?, *weight))
        };
        let prompts = recipe.tasks.iter().map(prompt).collect::<Result<_>>()?;
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
        let Recipe { strings, full, arrangement, .. } = self.recipe;
        let density = bucket.density.unwrap_or(self.recipe.density);
        // The auxiliary heads are made for one density.
        let heads_read = density == self.recipe.density;
        let drawing = Drawing { corpus: &self.corpus, density, arrangement, strings, full };
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
            let mut ids = self.tokenizer.encode(&arrangement.text(&drawn.lines))?;
            ids.push(self.tokenizer.eos());
            texts.push(ids);
        }
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let (from, length) = bucket.window.map_or((0, longest), |window| window.draw(longest, random));
        let lengths = texts.iter().map(|ids| ids.len().saturating_sub(from).min(length)).collect();
        let filled = |mut ids: Vec<u32>| {
            ids.resize(longest, self.tokenizer.eos());
            ids.truncate(from + length);
            ids.split_off(from.saturating_sub(1))
        };
        let ids = texts.into_iter().flat_map(filled).collect();
        let all_cells = pages * rows * COLUMNS * (density[0] * density[1]) as usize;
        Ok(Batch { pages, rows, at, pixels, prompt, from, ids, length, lengths, cells, all_cells })
    }

    /// The cells of a page that the auxiliary losses look at: all with a character, some without.
    fn cells(&self, lines: &[String], [page, rows]: [usize; 2], random: &mut Random, into: &mut Vec<(usize, u8)>) {
        let [high, wide] = self.recipe.density.map(|count| count as usize);
        if self.recipe.arrangement == Arrangement::Blocks {
            return self.cells_of_blocks(lines, page * rows * COLUMNS * high * wide, random, into);
        }
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

    fn cells_of_blocks(&self, lines: &[String], first: usize, random: &mut Random, into: &mut Vec<(usize, u8)>) {
        let wide = self.recipe.density[1] as usize;
        for (line, text) in lines.iter().enumerate() {
            for (column, &character) in text.as_bytes().iter().enumerate() {
                let class = match character {
                    b' ' if random.fraction() >= BLANKS => continue,
                    b'\n' => CLASSES as u8 - 1,
                    _ => character.clamp(b' ', b'~') - b' ',
                };
                into.push((first + line * wide + column, class));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Split;
    use std::{fs, path::Path};

    fn source(folder: &Path, window: serde_json::Value) -> (Source, Bucket) {
        let text = "It rained, and the sailors sang of home.\n\nNobody heard them, for the wind was loud.\n\n";
        (0..40).for_each(|name| fs::write(folder.join(format!("{name}.txt")), text.repeat(20)).unwrap());
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/mini");
        let recipe = serde_json::json!({
            "seed": 3, "model": model, "start": "scratch", "corpus": folder, "density": [3, 4], "arrangement": "blocks",
            "tasks": { "free-ocr": 1.0 }, "strings": 0.0, "full": 1.0, "threads": 1,
            "rate": { "highest": 1e-3, "warm_up": 2, "decay_from": 5, "clip": 1.0 },
            "weights": { "balance": 0.01, "patches": 0.5, "tokens": 0.5 },
            "stages": [{ "until": 9, "batches": [{ "rows": 1, "pages": 3, "weight": 1.0, "window": window }] }]
        });
        let recipe: Recipe = serde_json::from_value(recipe).unwrap();
        let tokenizer = Tokenizer::open(model.join("tokenizer.json")).unwrap();
        let bucket = recipe.stages[0].batches[0];
        (Source::new(&recipe, Corpus::open(folder, Split::Training).unwrap(), tokenizer, 8).unwrap(), bucket)
    }

    #[test]
    fn a_window_is_a_part_of_the_whole_text() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, _) = source(folder.path(), serde_json::Value::Null);
        let (part, bucket) = source(folder.path(), serde_json::json!({ "tokens": 20, "within": 97 }));
        let mut begins = Vec::new();
        for step in 0..20 {
            let [whole, part] = [&whole, &part].map(|source| source.batch(step).unwrap());
            // 8 blocks of 12 characters and the end.
            assert_eq!((whole.from, whole.length, whole.lead(), part.length), (0, 97, 0, 20));
            assert!((whole.pixels == part.pixels) && whole.cells == part.cells);
            for (all, some) in whole.rows().zip(part.rows()) {
                assert_eq!(some, &all[part.from - part.lead()..part.from + 20]);
            }
            begins.push(part.from);
        }
        assert!(begins.iter().max() > Some(&50) && bucket.window.is_some());
        let (blind, _) = source(folder.path(), serde_json::json!({ "tokens": 0, "within": 0 }));
        let batch = blind.batch(0).unwrap();
        assert_eq!((batch.length, batch.ids.len(), batch.totals().tokens), (0, 0, 0));
        assert!(batch.parts(2).iter().all(|part| part.ids.is_empty() && !part.cells.is_empty()));
    }

    #[test]
    fn cells_of_blocks_are_the_text_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let (source, _) = source(folder.path(), serde_json::Value::Null);
        let (mut spaces, mut blanks, mut ends) = (0, 0, 0);
        for step in 0..10 {
            let batch = source.batch(step).unwrap();
            let seen: Vec<String> = batch.rows().map(|row| source.tokenizer.decode(&row[..96]).unwrap()).collect();
            let seen = seen.concat().into_bytes();
            for &(cell, class) in &batch.cells {
                let expected = if seen[cell] == b'\n' { CLASSES as u8 - 1 } else { seen[cell] - b' ' };
                assert_eq!(class, expected, "cell {cell}");
                blanks += usize::from(seen[cell] == b' ');
            }
            let count = |character| seen.iter().filter(|&&seen| seen == character).count();
            let others = batch.cells.len() - batch.cells.iter().filter(|(_, class)| *class == 0).count();
            assert_eq!(others, seen.len() - count(b' '), "each that is not blank is looked at");
            spaces += count(b' ');
            ends += count(b'\n');
        }
        let share = blanks as f64 / spaces as f64;
        assert!(ends > 10 && (share - BLANKS).abs() < 0.1, "{ends}, {blanks} of {spaces}");
    }
}
