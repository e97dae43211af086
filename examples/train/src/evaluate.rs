//! Reads held-out pages through the library itself.

use crate::{
    corpus::{Corpus, Split, strings},
    pages::{COLUMNS, style},
    random::Random,
};
use anyhow::Result;
use deepseek_ocr::{DeepseekOcr, Device, Finish, Mode, NoRepeat, Page, Request, Task, Tokenizer};
use serde::Serialize;
use std::path::Path;

/// What is read.
pub(crate) struct Evaluation<'a> {
    pub model: &'a Path,
    pub device: &'a Device,
    pub corpus: &'a Path,
    /// Counts text tokens; without it the model's own does.
    pub tokenizer: Option<&'a Path>,
    pub density: [u32; 2],
    /// Pages of each kind.
    pub pages: usize,
    pub seed: u64,
}

/// How a kind of text was read.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reading {
    pub kind: String,
    pub pages: usize,
    /// Mean over pages of one minus edit distance over the longer length.
    pub precision: f64,
    /// Edits over characters of all pages.
    pub error: f64,
    pub exact: usize,
    /// Pages whose answer had to be stopped.
    pub stopped: usize,
    pub characters: f64,
    pub text_tokens: f64,
    /// Text tokens over tokens of the view's grid, and over all vision tokens.
    pub compression: [f64; 2],
    /// One text that was not read as it stands, and its answer.
    pub example: Option<[String; 2]>,
}

/// Reads full pages: one kind for each source, and random strings.
pub(crate) fn evaluate(evaluation: &Evaluation<'_>) -> Result<Vec<Reading>> {
    let ocr = DeepseekOcr::from_dir(evaluation.model, evaluation.device)?;
    let corpus = Corpus::open(evaluation.corpus, Split::HeldOut)?;
    let counting = match evaluation.tokenizer {
        Some(path) => Tokenizer::open(path)?,
        None => ocr.tokenizer().clone(),
    };
    let mut readings = Vec::new();
    for kind in 0..=corpus.sources.len() {
        let source = corpus.sources.get(kind);
        let name = source.map_or("random strings", |source| &source.name);
        let mut pages = Vec::new();
        for page in 0..evaluation.pages {
            let mut random = Random::new(evaluation.seed, (kind * evaluation.pages + page) as u64);
            let style = style(evaluation.density, COLUMNS);
            let length = 64 * (evaluation.density[0] * evaluation.density[1]) as usize;
            let text = match source {
                Some(source) => source.text(&mut random, length),
                None => strings(&mut random, length),
            };
            let typeset = Page::typeset(&text, &style)?;
            let page = &typeset.pages()[0];
            let lines: Vec<&str> = page.lines.iter().map(|line| &text[line.clone()]).collect();
            pages.push((page.page.clone(), lines.join("\n")));
        }
        readings.push(read(&ocr, &counting, name, &pages)?);
    }
    Ok(readings)
}

fn read(ocr: &DeepseekOcr, counting: &Tokenizer, kind: &str, pages: &[(Page, String)]) -> Result<Reading> {
    let request = |(page, truth): &(Page, String)| {
        let most = ocr.tokenizer().encode(truth).map_or(0, |ids| ids.len()) + 64;
        let request = Request::new(page).with_mode(Mode::Tiny).with_task(Task::FreeOcr);
        request.with_no_repeat(NoRepeat::Off).with_max_new_tokens(most)
    };
    let (mut precision, mut edits, mut characters, mut tokens, mut grid, mut all) = (0.0, 0, 0, 0, 0, 0);
    let (mut exact, mut stopped, mut example) = (0, 0, None);
    for (transcript, (_, truth)) in ocr.generate_batch(pages.iter().map(request)).into_iter().zip(pages) {
        let transcript = transcript?;
        let answer = transcript.text();
        let distance = strsim::levenshtein(answer, truth);
        let longer = answer.chars().count().max(truth.chars().count()).max(1);
        precision += 1.0 - distance as f64 / longer as f64;
        edits += distance;
        characters += truth.chars().count();
        tokens += counting.encode(truth)?.len();
        all += transcript.usage().vision_tokens;
        grid += COLUMNS * COLUMNS;
        exact += usize::from(distance == 0);
        stopped += usize::from(transcript.finish() != Finish::Stop);
        if distance > 0 {
            example.get_or_insert_with(|| [truth.clone(), answer.to_owned()]);
        }
    }
    let count = pages.len() as f64;
    Ok(Reading {
        kind: kind.to_owned(),
        pages: pages.len(),
        precision: precision / count,
        error: edits as f64 / characters as f64,
        exact,
        stopped,
        characters: characters as f64 / count,
        text_tokens: tokens as f64 / count,
        compression: [tokens as f64 / grid as f64, tokens as f64 / all as f64],
        example,
    })
}
