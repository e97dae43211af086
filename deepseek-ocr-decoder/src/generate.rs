//! The loop: guard, choose, stop, step. It holds the state of a batch; the weights stay in the [`Decoder`].

use crate::{Cache, Decoder, NoRepeat, Prompt, Sampling, sampling::Sampler};
use burn::tensor::{DType, Tensor};
use deepseek_ocr_core::{Error, Result};

/// Tokens of an answer at most, as in the original's calls.
const MAX_NEW_TOKENS: usize = 8192;

/// How one row of a batch is generated.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Which tokens may not be chosen.
    pub no_repeat: NoRepeat,
    /// Tokens of the answer at most.
    pub max_new_tokens: usize,
    /// The token that ends the answer.
    pub eos: u32,
    /// When an answer that goes round in circles is given up.
    pub loop_stop: LoopStop,
}

/// Ends an answer whose last tokens go round in circles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoopStop {
    /// How many of the last tokens have to repeat.
    pub tokens: usize,
    /// Tokens of one round at most; 0 never stops an answer.
    pub period: usize,
}

/// Why a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended the text itself.
    Stop,
    /// The token limit or the end of the context was reached: the text may be cut off.
    Length,
    /// The text went round in circles, or the repetition guard left no token to choose.
    Repetition,
    /// The row was cancelled.
    Cancelled,
}

impl std::fmt::Display for Finish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Repetition => "repetition",
            Self::Cancelled => "cancelled",
        })
    }
}

/// A generated token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Token {
    /// The row of the batch.
    pub row: usize,
    /// The token's id.
    pub id: u32,
    /// What the model gave it, before bans and temperature.
    pub probability: f32,
}

/// The state of a batch of rows while they are generated.
///
/// A row's tokens do not depend on the rest of the batch: they are those that it would get alone.
#[derive(Debug)]
pub struct Generation {
    rows: Vec<Row>,
    cache: Cache,
}

#[derive(Debug)]
struct Row {
    /// What prefill reads; taken by it.
    inputs: Option<Tensor<2>>,
    prompt: Vec<u32>,
    options: GenerateOptions,
    sampler: Sampler,
    /// Tokens of the answer at most: the option, or what the context leaves.
    limit: usize,
    ids: Vec<u32>,
    probabilities: Vec<f32>,
    finish: Option<Finish>,
}

impl Generation {
    /// Prepares a batch; nothing is computed but the embeddings.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for an empty prompt, a token id outside the vocabulary or a setting out of range,
    /// [`Error::PromptTooLong`], [`Error::VisionTokensWidth`].
    pub fn new(decoder: &Decoder, rows: Vec<(Prompt, GenerateOptions)>) -> Result<Self> {
        let rows = rows.into_iter().map(|(prompt, options)| Row::new(decoder, &prompt, options));
        let rows = rows.collect::<Result<Vec<_>>>()?;
        let capacity = rows.iter().map(|row| row.prompt.len() + row.limit).max().unwrap_or(0);
        let cache = Cache::new(decoder.config(), rows.len(), capacity, &decoder.device());
        Ok(Self { rows, cache })
    }

    /// One more token for each row that is not finished, in the order of the rows; the first call reads the prompts.
    ///
    /// A row that ends gives no token in that call, except one that ends because of its length or its repetition: it
    /// ends with its last token. Empty when all rows are finished.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if the model computes NaN, [`Error::Execution`] if the device fails. Then the generation
    /// cannot go on.
    pub fn advance(&mut self, decoder: &Decoder) -> Result<Vec<Token>> {
        let (mut tokens, mut ids, mut running) = (Vec::new(), Vec::new(), Vec::new());
        for (index, row) in self.rows.iter_mut().enumerate().filter(|(_, row)| row.finish.is_none()) {
            match row.inputs.take() {
                Some(inputs) => {
                    let logits = read(decoder.prefill(inputs, &mut self.cache, index))?;
                    tokens.extend(row.accept(index, &logits)?);
                }
                None => {
                    // A row that runs without inputs has chosen at least one token.
                    ids.extend(row.ids.last());
                    running.push(index);
                }
            }
        }
        if !running.is_empty() {
            let logits = read(decoder.step(&ids, &running, &mut self.cache))?;
            for (index, logits) in running.into_iter().zip(logits.chunks(decoder.config().vocab)) {
                tokens.extend(self.rows[index].accept(index, logits)?);
            }
        }
        Ok(tokens)
    }

    /// Ends a row that is not finished.
    pub fn cancel(&mut self, row: usize) {
        let row = &mut self.rows[row];
        row.finish.get_or_insert(Finish::Cancelled);
        row.inputs = None;
    }

    /// Why a row ended, if it has.
    pub fn finish(&self, row: usize) -> Option<Finish> {
        self.rows[row].finish
    }

    /// The tokens of a row so far.
    pub fn ids(&self, row: usize) -> &[u32] {
        &self.rows[row].ids
    }

    /// The probabilities of a row's tokens.
    pub fn probabilities(&self, row: usize) -> &[f32] {
        &self.rows[row].probabilities
    }

    /// Whether all rows are finished.
    pub fn is_finished(&self) -> bool {
        self.rows.iter().all(|row| row.finish.is_some())
    }
}

impl Row {
    fn new(decoder: &Decoder, prompt: &Prompt, options: GenerateOptions) -> Result<Self> {
        options.no_repeat.validate()?;
        let (tokens, context) = (prompt.len(), decoder.config().context);
        let room = context.saturating_sub(tokens);
        if room == 0 {
            return Err(Error::PromptTooLong { tokens, context });
        }
        let limit = options.max_new_tokens.min(room);
        Ok(Self {
            inputs: Some(decoder.embed(&prompt.segments)?),
            prompt: prompt.ids(),
            sampler: Sampler::new(options.sampling)?,
            options,
            limit,
            ids: Vec::new(),
            probabilities: Vec::new(),
            finish: (limit == 0).then_some(Finish::Length),
        })
    }

    /// Chooses the next token and decides whether it was the last.
    fn accept(&mut self, row: usize, logits: &[f32]) -> Result<Option<Token>> {
        let banned = self.options.no_repeat.banned(&self.prompt, &self.ids);
        let Some(choice) = self.sampler.choose(logits, &banned)? else {
            self.finish = Some(Finish::Repetition);
            return Ok(None);
        };
        if choice.id == self.options.eos {
            self.finish = Some(Finish::Stop);
            return Ok(None);
        }
        self.ids.push(choice.id);
        self.probabilities.push(choice.probability);
        if self.options.loop_stop.stops(&self.ids) {
            self.finish = Some(Finish::Repetition);
        } else if self.ids.len() == self.limit {
            self.finish = Some(Finish::Length);
        }
        Ok(Some(Token { row, id: choice.id, probability: choice.probability }))
    }
}

impl GenerateOptions {
    /// Greedy, without a guard, up to 8192 tokens, until `eos`.
    pub fn new(eos: u32) -> Self {
        Self {
            sampling: Sampling::default(),
            no_repeat: NoRepeat::default(),
            max_new_tokens: MAX_NEW_TOKENS,
            eos,
            loop_stop: LoopStop::default(),
        }
    }

    /// Chooses tokens so.
    pub fn with_sampling(self, sampling: Sampling) -> Self {
        Self { sampling, ..self }
    }

    /// Guards against repetition so.
    pub fn with_no_repeat(self, no_repeat: NoRepeat) -> Self {
        Self { no_repeat, ..self }
    }

    /// Ends the answer after this many tokens.
    pub fn with_max_new_tokens(self, max_new_tokens: usize) -> Self {
        Self { max_new_tokens, ..self }
    }

    /// Gives up circles so.
    pub fn with_loop_stop(self, loop_stop: LoopStop) -> Self {
        Self { loop_stop, ..self }
    }
}

impl LoopStop {
    /// Never stops an answer.
    pub const OFF: Self = Self::new(0, 0);

    /// Stops when the last `tokens` tokens repeat with a period of at most `period` tokens, at least twice.
    pub const fn new(tokens: usize, period: usize) -> Self {
        Self { tokens, period }
    }

    fn stops(&self, ids: &[u32]) -> bool {
        let Some(start) = ids.len().checked_sub(self.tokens) else { return false };
        let last = &ids[start..];
        // From the end: nearly all periods are refuted by their first comparison.
        let repeats = |&period: &usize| last.iter().rev().zip(last.iter().rev().skip(period)).all(|(a, b)| a == b);
        (1..=self.period.min(self.tokens / 2)).any(|period| repeats(&period))
    }
}

impl Default for LoopStop {
    /// 1024 tokens with a period of at most 64: no table or list of a page is that regular.
    fn default() -> Self {
        Self::new(1024, 64)
    }
}

/// Logits to the host.
fn read<const D: usize>(logits: Tensor<D>) -> Result<Vec<f32>> {
    let data = logits.try_into_data().map_err(|e| Error::Execution { source: e.to_string().into() })?;
    data.convert_dtype(DType::F32).try_to_vec().map_err(|e| Error::Execution { source: format!("{e:?}").into() })
}

#[cfg(test)]
mod tests;
