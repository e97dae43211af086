//! Repetition guards: which tokens may not come next.

mod guard;

pub(crate) use guard::Guard;

use deepseek_ocr_core::{Error, Result};
use std::collections::BTreeSet;

/// Bans tokens that would repeat an n-gram.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoRepeat {
    /// Bans nothing.
    #[default]
    Off,
    /// Over the whole sequence, prompt and vision tokens included, no n-gram occurs twice.
    Sequence {
        /// Length of an n-gram, from 1.
        ngram: usize,
    },
    /// Over the generated tokens alone, no n-gram that starts among the last `window` of them occurs again, except where it
    /// ends with an allowed token.
    ///
    /// Two properties of the original are kept: n-grams of one token ban nothing, and neither does a window
    /// that is shorter than an n-gram.
    Window {
        /// Length of an n-gram, from 1.
        ngram: usize,
        /// How many of the last tokens are looked at, from 1.
        window: usize,
        /// Tokens that are never banned, such as the cell tags of tables.
        allowed: Vec<u32>,
    },
}

impl NoRepeat {
    /// The banned tokens, ascending, after `generated` has followed `prompt`.
    ///
    /// This looks at all of them; generation keeps what it needs from token to token.
    ///
    /// ```
    /// use deepseek_ocr_decoder::NoRepeat;
    ///
    /// let guard = NoRepeat::Sequence { ngram: 3 };
    /// assert_eq!(guard.banned(&[5, 6, 7], &[5, 6]), [7]);
    /// let guard = NoRepeat::Window { ngram: 3, window: 9, allowed: vec![] };
    /// assert!(guard.banned(&[5, 6, 7], &[5, 6]).is_empty());
    /// ```
    pub fn banned(&self, prompt: &[u32], generated: &[u32]) -> Vec<u32> {
        let banned: BTreeSet<u32> = match self {
            Self::Off => return Vec::new(),
            Self::Sequence { ngram } => {
                let sequence: Vec<u32> = prompt.iter().chain(generated).copied().collect();
                followers(&sequence, *ngram).collect()
            }
            Self::Window { ngram: 0 | 1, .. } => return Vec::new(),
            Self::Window { ngram, window, allowed } => {
                let seen = &generated[generated.len().saturating_sub(*window)..];
                followers(seen, *ngram).filter(|token| !allowed.contains(token)).collect()
            }
        };
        banned.into_iter().collect()
    }

    /// # Errors
    /// [`Error::InvalidRequest`] for a length of zero.
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Self::Sequence { ngram: 0 } | Self::Window { ngram: 0, .. } => {
                Err(Error::invalid_request("no_repeat.ngram", 0, "at least 1"))
            }
            Self::Window { window: 0, .. } => Err(Error::invalid_request("no_repeat.window", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}

/// What followed each occurrence of the last `ngram - 1` tokens.
fn followers(tokens: &[u32], ngram: usize) -> impl Iterator<Item = u32> {
    let prefix = &tokens[(tokens.len() + 1).saturating_sub(ngram).min(tokens.len())..];
    let whole = ngram > 0 && prefix.len() == ngram - 1;
    let places = if whole { tokens.windows(ngram) } else { [].windows(1) };
    places.filter_map(move |place| place.strip_prefix(prefix).map(|rest| rest[0]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The official processor's loop, index by index.
    fn window_oracle(generated: &[u32], ngram: usize, window: usize, allowed: &[u32]) -> Vec<u32> {
        let length = generated.len();
        if length < ngram || ngram < 2 {
            return Vec::new();
        }
        let mut banned = BTreeSet::new();
        for start in length.saturating_sub(window)..=length - ngram {
            let mut equal = true;
            for i in 0..ngram - 1 {
                equal &= generated[start + i] == generated[length - ngram + 1 + i];
            }
            if equal && !allowed.contains(&generated[start + ngram - 1]) {
                banned.insert(generated[start + ngram - 1]);
            }
        }
        banned.into_iter().collect()
    }

    /// By the definition: a token is banned when its n-gram has occurred.
    fn sequence_oracle(sequence: &[u32], ngram: usize, vocab: u32) -> Vec<u32> {
        let repeats = |token: &u32| {
            let mut next = sequence.to_vec();
            next.push(*token);
            let last = next.len().checked_sub(ngram).map(|start| &next[start..]);
            last.is_some_and(|last| sequence.windows(ngram).any(|place| place == last))
        };
        (0..vocab).filter(repeats).collect()
    }

    proptest! {
        #[test]
        fn guards_equal_the_naive_loops(
            prompt in prop::collection::vec(0u32..4, 0..20),
            generated in prop::collection::vec(0u32..4, 0..40),
            (ngram, window) in (1usize..6, 1usize..50),
            allowed in prop::collection::vec(0u32..4, 0..3),
        ) {
            let sequence: Vec<u32> = prompt.iter().chain(&generated).copied().collect();
            let guard = NoRepeat::Sequence { ngram };
            prop_assert_eq!(guard.banned(&prompt, &generated), sequence_oracle(&sequence, ngram, 4));
            let expected = window_oracle(&generated, ngram, window, &allowed);
            let guard = NoRepeat::Window { ngram, window, allowed };
            prop_assert_eq!(guard.banned(&prompt, &generated), expected);
        }
    }

    #[test]
    fn single_tokens_are_banned_by_sequences_alone() {
        assert_eq!(NoRepeat::Sequence { ngram: 1 }.banned(&[2], &[1, 1]), [1, 2]);
        assert!(NoRepeat::Window { ngram: 1, window: 9, allowed: vec![] }.banned(&[2], &[1, 1]).is_empty());
    }

    #[test]
    fn a_length_of_zero_is_refused() {
        assert!(NoRepeat::Sequence { ngram: 0 }.validate().is_err());
        assert!(NoRepeat::Window { ngram: 2, window: 0, allowed: vec![] }.validate().is_err());
        assert!(NoRepeat::Window { ngram: 1, window: 1, allowed: vec![] }.validate().is_ok());
    }
}
