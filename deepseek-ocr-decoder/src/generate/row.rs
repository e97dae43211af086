//! One row of a batch: what it was asked, and what it wrote so far.

use super::{Finish, GenerateOptions, Token};
use crate::{
    Decoder, Prompt,
    no_repeat::Guard,
    sampling::{Choice, Sampler},
};
use burn::tensor::Tensor;
use deepseek_ocr_core::{Error, Result};

#[derive(Debug)]
pub(super) struct Row {
    /// What prefill reads; taken by it.
    pub(super) inputs: Option<Tensor<2>>,
    pub(super) guard: Guard,
    pub(super) options: GenerateOptions,
    pub(super) sampler: Sampler,
    /// Tokens of the answer at most: the option, or what the context leaves.
    pub(super) limit: usize,
    pub(super) ids: Vec<u32>,
    pub(super) probabilities: Vec<f32>,
    pub(super) finish: Option<Finish>,
    /// Its place in the step that was queued ahead.
    pub(super) queued: Option<usize>,
}

impl Row {
    pub(super) fn new(decoder: &Decoder, prompt: &Prompt, options: GenerateOptions) -> Result<Self> {
        options.no_repeat.validate()?;
        let (tokens, context) = (prompt.len(), decoder.config().context);
        let room = context.saturating_sub(tokens);
        if room == 0 {
            return Err(Error::PromptTooLong { tokens, context });
        }
        let limit = options.max_new_tokens.min(room);
        Ok(Self {
            inputs: Some(decoder.embed(&prompt.segments)?),
            guard: Guard::new(&options.no_repeat, &prompt.ids()),
            sampler: Sampler::new(options.sampling)?,
            options,
            limit,
            ids: Vec::new(),
            probabilities: Vec::new(),
            finish: (limit == 0).then_some(Finish::Length),
            queued: None,
        })
    }

    /// Tokens that may not come next.
    pub(super) fn banned(&self) -> Vec<u32> {
        self.guard.banned()
    }

    /// Whether the token after the next one is the best of all, whatever the next one is.
    pub(super) fn is_predictable(&self) -> bool {
        matches!(self.sampler, Sampler::Greedy) && self.guard.is_free_after_any()
    }

    /// Whether the next token is the last one that the limit leaves.
    pub(super) fn is_at_its_last(&self) -> bool {
        self.ids.len() + 1 >= self.limit
    }

    /// Takes the next token and decides whether it was the last.
    pub(super) fn accept(&mut self, row: usize, choice: Option<Choice>) -> Option<Token> {
        let Some(Choice { id, probability }) = choice else {
            self.finish = Some(Finish::Repetition);
            return None;
        };
        if id == self.options.eos {
            self.finish = Some(Finish::Stop);
            return None;
        }
        self.ids.push(id);
        self.guard.push(id);
        self.probabilities.push(probability);
        if self.options.loop_stop.stops(&self.ids) {
            self.finish = Some(Finish::Repetition);
        } else if self.ids.len() == self.limit {
            self.finish = Some(Finish::Length);
        }
        Some(Token { row, id, probability })
    }
}
