//! Reads held-out pages through the library itself.

use crate::{
    corpus::{Corpus, Split, strings},
    pages::{COLUMNS, room},
    random::Random,
    recipe::Arrangement,
};
use anyhow::Result;
use deepseek_ocr::{DeepseekOcr, Device, Finish, Mode, NoRepeat, Page, Request, Style, Task, Tokenizer};
use image::DynamicImage;
use serde::Serialize;
use std::{fs, path::Path};

/// What is read.
pub(crate) struct Evaluation<'a> {
    pub model: &'a Path,
    pub device: &'a Device,
    pub corpus: &'a Path,
    /// Counts text tokens; without it the model's own does.
    pub tokenizer: Option<&'a Path>,
    pub style: &'a Style,
    /// How the lines of a page become the text that should be read.
    pub arrangement: Arrangement,
    /// Text tokens a token of the grid, if pages are not to be filled.
    pub ratio: Option<f64>,
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
    /// Each page.
    #[serde(skip)]
    pub samples: Vec<Sample>,
}

/// A page, what stands on it and what was read.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    #[serde(skip)]
    page: Page,
    file: String,
    kind: String,
    truth: String,
    greedy: String,
    precision: f64,
    text_tokens: usize,
}

/// Writes pages and what was read from them, first one of each kind, then the second, ..
pub(crate) fn write_samples(readings: &[Reading], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let most = readings.iter().map(|reading| reading.samples.len()).max().unwrap_or(0);
    let samples = (0..most).flat_map(|index| readings.iter().filter_map(move |reading| reading.samples.get(index)));
    let mut samples: Vec<Sample> = samples.cloned().collect();
    for (index, sample) in samples.iter_mut().enumerate() {
        sample.file = format!("page{index:02}.png");
        DynamicImage::from(sample.page.rgb().clone()).to_luma8().save(folder.join(&sample.file))?;
    }
    Ok(fs::write(folder.join("samples.json"), serde_json::to_vec_pretty(&samples)?)?)
}

/// Reads pages: one kind for each source, and random strings.
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
            let mut text = match source {
                Some(source) => source.text(&mut random, room(evaluation.style)),
                None => strings(&mut random, room(evaluation.style)),
            };
            if let Some(ratio) = evaluation.ratio {
                let ids = counting.encode(&text)?;
                let most = (ratio * (COLUMNS * COLUMNS) as f64).round() as usize;
                text = counting.decode(&ids[..most.min(ids.len())])?.trim_end().to_owned();
            }
            let typeset = Page::typeset(&text, evaluation.style)?;
            let page = &typeset.pages()[0];
            let lines: Vec<&str> = page.lines.iter().map(|line| &text[line.clone()]).collect();
            pages.push((page.page.clone(), evaluation.arrangement.text(&lines)));
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
    let (mut exact, mut stopped, mut example, mut samples) = (0, 0, None, Vec::new());
    for (transcript, (page, truth)) in ocr.generate_batch(pages.iter().map(request)).into_iter().zip(pages) {
        let transcript = transcript?;
        let answer = transcript.text();
        let distance = strsim::levenshtein(answer, truth);
        let longer = answer.chars().count().max(truth.chars().count()).max(1);
        let (reached, text_tokens) = (1.0 - distance as f64 / longer as f64, counting.encode(truth)?.len());
        precision += reached;
        edits += distance;
        characters += truth.chars().count();
        tokens += text_tokens;
        all += transcript.usage().vision_tokens;
        grid += COLUMNS * COLUMNS;
        exact += usize::from(distance == 0);
        stopped += usize::from(transcript.finish() != Finish::Stop);
        if distance > 0 {
            example.get_or_insert_with(|| [truth.clone(), answer.to_owned()]);
        }
        samples.push(Sample {
            page: page.clone(),
            file: String::new(),
            kind: kind.to_owned(),
            truth: truth.clone(),
            greedy: answer.to_owned(),
            precision: reached,
            text_tokens,
        });
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
        samples,
    })
}
