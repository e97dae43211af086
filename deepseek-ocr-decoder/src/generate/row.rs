//! One row of a batch: what it was asked, and what it wrote so far.

use super::{Finish, GenerateOptions, Token};
use crate::{
    Decoder, Prompt,
    sampling::{Choice, Sampler},
};
use burn::tensor::Tensor;
use deepseek_ocr_core::{Error, Result};

#[derive(Debug)]
pub(super) struct Row {
    /// What prefill reads; taken by it.
    pub(super) inputs: Option<Tensor<2>>,
    pub(super) prompt: Vec<u32>,
    pub(super) options: GenerateOptions,
    pub(super) sampler: Sampler,
    /// Tokens of the answer at most: the option, or what the context leaves.
    pub(super) limit: usize,
    pub(super) ids: Vec<u32>,
    pub(super) probabilities: Vec<f32>,
    pub(super) finish: Option<Finish>,
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
            prompt: prompt.ids(),
            sampler: Sampler::new(options.sampling)?,
            options,
            limit,
            ids: Vec::new(),
            probabilities: Vec::new(),
            finish: (limit == 0).then_some(Finish::Length),
        })
    }

    /// Tokens that may not come next.
    pub(super) fn banned(&self) -> Vec<u32> {
        self.options.no_repeat.banned(&self.prompt, &self.ids)
    }

    /// Chooses the next token; `None` if all are banned.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Result<Option<Choice>> {
        let banned = self.banned();
        self.sampler.choose(logits, &banned)
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
        self.probabilities.push(probability);
        if self.options.loop_stop.stops(&self.ids) {
            self.finish = Some(Finish::Repetition);
        } else if self.ids.len() == self.limit {
            self.finish = Some(Finish::Length);
        }
        Some(Token { row, id, probability })
    }
}
