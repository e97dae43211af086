//! How a row is generated, and when it is given up.

use crate::{NoRepeat, Sampling, sampling::Sampler};
use deepseek_ocr_core::Result;

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

    /// Checks that each setting is in range.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`](deepseek_ocr_core::Error::InvalidRequest).
    pub fn validate(&self) -> Result<()> {
        self.no_repeat.validate()?;
        Sampler::new(self.sampling).map(drop)
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

    pub(super) fn stops(&self, ids: &[u32]) -> bool {
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
