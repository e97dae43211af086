//! Texts to compress: excerpts that stand beside this file, and random ones from fixed seeds.

use clap::ValueEnum;

/// Alice's Adventures in Wonderland, chapter I, by Lewis Carroll (1865).
const PROSE: &str = include_str!("../texts/prose.txt");
/// Rust of this project.
const CODE: &str = include_str!("../texts/code.txt");
/// The Thousand Character Classic, by Zhou Xingsi (6th century): its first two thirds.
const CJK: &str = include_str!("../texts/cjk.txt");

/// Steps between the beginnings of samples, in words; prime, so that none begins where another did for long.
const STRIDE: usize = 211;
/// Letters of a random word, and digits of a random number.
const LETTERS: std::ops::Range<usize> = 2..10;

/// A kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum)]
pub enum Kind {
    /// A novel.
    Prose,
    /// Rust source.
    Code,
    /// The words of the novel in random order: no sentence helps.
    Words,
    /// Random small letters: no word helps.
    Letters,
    /// Random digits.
    Digits,
    /// Chinese, for models and fonts that have it.
    Cjk,
}

impl Kind {
    /// Its name in tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prose => "prose",
            Self::Code => "code",
            Self::Words => "words",
            Self::Letters => "letters",
            Self::Digits => "digits",
            Self::Cjk => "cjk",
        }
    }

    /// Sample `number` of this kind, of so many characters; always the same.
    pub fn sample(self, number: usize, characters: usize) -> String {
        let mut random = Random::new(number as u64);
        match self {
            Self::Prose => excerpt(PROSE, ' ', number, characters),
            Self::Code => excerpt(CODE, '\n', number, characters),
            Self::Cjk => excerpt(CJK, '。', number, characters),
            Self::Words => {
                let words: Vec<&str> = PROSE.split_whitespace().collect();
                joined(characters, || words[random.below(words.len())].to_owned())
            }
            Self::Letters => joined(characters, || random.word(b"abcdefghijklmnopqrstuvwxyz")),
            Self::Digits => joined(characters, || random.word(b"0123456789")),
        }
    }
}

/// A part of a text that begins behind a separator, and goes on from the start where it reaches the end.
fn excerpt(text: &str, separator: char, number: usize, characters: usize) -> String {
    let starts: Vec<usize> = text.match_indices(separator).map(|(at, found)| at + found.len()).collect();
    let start = starts[number * STRIDE % starts.len()];
    text[start..].chars().chain(text.chars().cycle()).take(characters).collect()
}

fn joined(characters: usize, mut word: impl FnMut() -> String) -> String {
    let mut text = String::new();
    while text.len() < characters {
        text += &word();
        text.push(' ');
    }
    text.truncate(characters);
    text
}

/// SplitMix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    fn word(&mut self, alphabet: &[u8]) -> String {
        let length = LETTERS.start + self.below(LETTERS.len());
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_their_length_and_differ() {
        for kind in Kind::value_variants() {
            let samples: Vec<String> = (0..8).map(|number| kind.sample(number, 500)).collect();
            for (number, sample) in samples.iter().enumerate() {
                assert_eq!(sample.chars().count(), 500, "{kind:?}");
                assert_eq!(*sample, kind.sample(number, 500));
                assert!(!samples[..number].contains(sample), "{kind:?} {number}");
                assert!(*kind == Kind::Cjk || sample.is_ascii(), "{kind:?}");
            }
        }
    }
}
