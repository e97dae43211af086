//! The model and the tokenizer that counts for it.

use anyhow::Context;
use deepseek_ocr::{
    DeepseekOcr, Device, Error, Result, Task, Tokenizer, VisionTokens,
    decoder::{GenerateOptions, Generation, LoopStop},
};
use std::{io::Read, path::Path};

/// Rows that are decoded together.
const ROWS: usize = 16;

/// An answer may be this many times as long as its text, and a few tokens more; what goes round in circles before that ends, too. Both
/// count as what they are, far from the text.
const LONGEST_ANSWER: f64 = 1.25;
const SPARE_TOKENS: usize = 32;
const CIRCLES: LoopStop = LoopStop::new(128, 32);

/// The tokenizer of the released model, which the repository's tests have.
const RELEASED_TOKENIZER: &[u8] = include_bytes!("../../../tests/data/tokenizer.json.gz");

/// A model, and the tokenizer by which its texts are counted.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The model.
    pub ocr: DeepseekOcr,
    /// Counts text tokens. The mini's own has a token for each character, which would flatter it: the released model's counts.
    pub tokenizer: Tokenizer,
}

/// What is to be read: vision tokens, or what stands in their place.
#[derive(Debug, Clone)]
pub struct Passage<'a> {
    /// The tokens.
    pub vision: VisionTokens,
    /// The text that they hold; how long it is bounds the answer.
    pub truth: &'a str,
    /// What is asked.
    pub task: Task,
}

impl Reader {
    /// A model folder; without one, the embedded mini checkpoint.
    ///
    /// # Errors
    /// Those of loading.
    pub fn open(folder: Option<&Path>, device: &Device) -> anyhow::Result<Self> {
        let ocr = match folder {
            Some(folder) => DeepseekOcr::from_dir(folder, device)?,
            None => DeepseekOcr::mini(device)?,
        };
        Ok(Self { ocr, tokenizer: released_tokenizer()? })
    }

    /// What the model reads from each passage, many together.
    ///
    /// # Errors
    /// Those of [`Generation`].
    pub fn read(&self, passages: &[Passage<'_>]) -> anyhow::Result<Vec<String>> {
        let (decoder, tokenizer) = (self.ocr.decoder(), self.ocr.tokenizer());
        let row = |Passage { vision, truth, task }: &Passage<'_>| -> Result<_> {
            let tokens = tokenizer.encode(truth)?.len();
            let limit = (LONGEST_ANSWER * tokens as f64) as usize + SPARE_TOKENS;
            let options = GenerateOptions::new(tokenizer.eos()).with_max_new_tokens(limit).with_loop_stop(CIRCLES);
            Ok((tokenizer.prompt(task, vec![vision.clone()])?, options))
        };
        let mut texts = Vec::with_capacity(passages.len());
        for together in passages.chunks(ROWS) {
            let rows = together.iter().map(row).collect::<Result<Vec<_>>>()?;
            let mut generation = Generation::new(decoder, rows)?;
            while !generation.is_finished() {
                generation.advance(decoder)?;
            }
            for row in 0..together.len() {
                texts.push(tokenizer.decode(generation.ids(row)).context("what was read is no text")?);
            }
        }
        Ok(texts)
    }
}

/// The tokenizer of the released model.
///
/// # Errors
/// [`Error::Tokenizer`] if the repository's file is damaged.
pub fn released_tokenizer() -> Result<Tokenizer> {
    let mut json = Vec::new();
    let unpacked = flate2::read::GzDecoder::new(RELEASED_TOKENIZER).read_to_end(&mut json);
    unpacked.map_err(|source| Error::Tokenizer {
        reason: "tokenizer.json.gz is damaged".into(),
        source: Some(source.into()),
    })?;
    Tokenizer::from_bytes(&json)
}
