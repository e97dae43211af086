//! What share of a text was read: the three readings.

use deepseek_ocr::{Result, Tokenizer};

/// The share of a text that was read: 1 - edit distance over the longer length, in three units.
///
/// Runs of white space count as one space, since models break lines where they will.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Precision {
    /// Of characters.
    pub characters: f64,
    /// Of words: one with a wrong letter is wrong.
    pub words: f64,
    /// Of text tokens, as the released tokenizer has them: exactly the ids that were to be compressed.
    pub tokens: f64,
}

impl Precision {
    /// Compares what was read with what stood there.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](deepseek_ocr::Error::Tokenizer).
    pub fn of(read: &str, truth: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let [read_words, truth_words] = [read, truth].map(|text| text.split_whitespace().collect::<Vec<_>>());
        let [read, truth] = [read_words.join(" "), truth_words.join(" ")];
        let characters = |text: &str| text.chars().collect::<Vec<_>>();
        Ok(Self {
            characters: share(&characters(&read), &characters(&truth)),
            words: share(&read_words, &truth_words),
            tokens: share(&tokenizer.encode(&read)?, &tokenizer.encode(&truth)?),
        })
    }

    /// The mean over pages; zero without any.
    pub fn mean(all: impl Iterator<Item = Self> + Clone) -> Self {
        let mean = |of: fn(Self) -> f64| all.clone().map(of).sum::<f64>() / all.clone().count().max(1) as f64;
        Self { characters: mean(|p| p.characters), words: mean(|p| p.words), tokens: mean(|p| p.tokens) }
    }
}

fn share<T: PartialEq>(read: &[T], truth: &[T]) -> f64 {
    let longer = read.len().max(truth.len()).max(1);
    1.0 - strsim::generic_levenshtein(&Slice(read), &Slice(truth)) as f64 / longer as f64
}

/// A slice as `strsim` takes it.
struct Slice<'a, T>(&'a [T]);

impl<'a, T> IntoIterator for &Slice<'a, T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_letter_costs_a_letter_a_word_and_its_tokens() -> Result<()> {
        let tokenizer = crate::reader::released_tokenizer()?;
        let truth = "one two three four";
        let same = Precision::of("one  two\nthree four\n", truth, &tokenizer)?;
        assert_eq!(same, Precision { characters: 1.0, words: 1.0, tokens: 1.0 });
        let found = Precision::of("one twq three four", truth, &tokenizer)?;
        assert_eq!((found.characters, found.words), (1.0 - 1.0 / 18.0, 0.75));
        assert!(found.tokens < 0.8 && found.tokens >= 0.5, "{found:?}");
        assert_eq!(Precision::of("", truth, &tokenizer)?, Precision::default());
        Ok(())
    }
}
