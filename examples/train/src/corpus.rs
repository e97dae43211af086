//! The text that pages are set of: a folder of text files, and random strings.

use crate::random::Random;
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// One document in so many is held out.
const HELD_OUT: u64 = 20;

/// Paragraphs shorter than this are headings and crumbs.
const SHORTEST: usize = 20;

/// Which documents are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Split {
    Training,
    HeldOut,
}

/// Documents by where they are from: each folder right below the corpus is a source, and so are the files beside them.
pub(crate) struct Corpus {
    pub sources: Vec<Source>,
}

/// Text of one kind.
pub(crate) struct Source {
    pub name: String,
    paragraphs: Vec<String>,
    /// Where each paragraph ends if all are put together.
    ends: Vec<usize>,
}

impl Corpus {
    /// Reads the `.txt` files below `folder`.
    pub(crate) fn open(folder: &Path, split: Split) -> Result<Self> {
        let mut sources: Vec<Source> = Vec::new();
        for file in files(folder)? {
            let relative = file.strip_prefix(folder).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            if checksum(&relative).is_multiple_of(HELD_OUT) != (split == Split::HeldOut) {
                continue;
            }
            let name = relative.split_once('/').map_or("", |(source, _)| source);
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            let paragraphs = paragraphs(&String::from_utf8_lossy(&bytes));
            match sources.iter_mut().find(|source| source.name == name) {
                Some(source) => source.add(paragraphs),
                None => {
                    let mut source = Source { name: name.to_owned(), paragraphs: Vec::new(), ends: Vec::new() };
                    source.add(paragraphs);
                    sources.push(source);
                }
            }
        }
        sources.retain(|source| !source.paragraphs.is_empty());
        ensure!(!sources.is_empty(), "{}: no text files for this split", folder.display());
        Ok(Self { sources })
    }

    /// About `length` characters of prose from anywhere, paragraphs apart by a line feed; from each source as often as the square
    /// root of its size has it.
    pub(crate) fn prose(&self, random: &mut Random, length: usize) -> String {
        let source = random.weighted(self.sources.iter().map(|source| (source.characters() as f64).sqrt()));
        self.sources[source].text(random, length)
    }
}

impl Source {
    fn add(&mut self, paragraphs: Vec<String>) {
        for paragraph in paragraphs {
            self.ends.push(self.characters() + paragraph.len());
            self.paragraphs.push(paragraph);
        }
    }

    fn characters(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// About `length` characters from a word's beginning on.
    pub(crate) fn text(&self, random: &mut Random, length: usize) -> String {
        let at = random.below(self.characters());
        let mut index = self.ends.partition_point(|&end| end <= at);
        let paragraph = &self.paragraphs[index];
        let start = random.below(paragraph.len());
        let start = match start {
            0 => 0,
            _ => paragraph[start..].find(' ').map_or(0, |space| start + space + 1),
        };
        let mut text = paragraph[start..].to_owned();
        while text.len() < length {
            index = (index + 1) % self.paragraphs.len();
            text.push('\n');
            text.push_str(&self.paragraphs[index]);
        }
        text
    }
}

/// Words without meaning: digits, letters of one case, any characters.
pub(crate) fn strings(random: &mut Random, length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        let kind = random.fraction();
        let (from, to, longest) = match kind {
            _ if kind < 0.35 => (b'0', b'9', 7),
            _ if kind < 0.55 => (b'A', b'Z', 8),
            _ if kind < 0.8 => (b'a', b'z', 9),
            _ => (b'!', b'~', 6),
        };
        for _ in 0..=random.below(longest) {
            text.push(char::from(from + random.below(usize::from(to - from) + 1) as u8));
        }
        text.push(' ');
    }
    text
}

/// Words of letters of both cases and digits.
pub(crate) fn codes(random: &mut Random, length: usize) -> String {
    const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::new();
    while text.len() < length {
        for _ in 0..=random.below(10) {
            text.push(char::from(CHARACTERS[random.below(CHARACTERS.len())]));
        }
        text.push(' ');
    }
    text
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "txt") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Paragraphs in ASCII, each in one line.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = Vec::new();
    let mut words = Vec::new();
    for line in text.lines().chain([""]) {
        words.extend(line.split_whitespace().map(ascii).filter(|word| !word.is_empty()));
        if line.trim().is_empty() {
            let paragraph = std::mem::take(&mut words).join(" ");
            if paragraph.len() >= SHORTEST {
                paragraphs.push(paragraph);
            }
        }
    }
    paragraphs
}

fn ascii(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    for character in word.chars() {
        match character {
            '\u{2018}' | '\u{2019}' => plain.push('\''),
            '\u{201c}' | '\u{201d}' => plain.push('"'),
            '\u{2014}' => plain.push_str("--"),
            '\u{2013}' | '\u{2212}' => plain.push('-'),
            '\u{2026}' => plain.push_str("..."),
            character if character.is_ascii_graphic() => plain.push(character),
            _ => {}
        }
    }
    plain
}

/// FNV-1a: a document stays on its side of the split whatever else is in the folder.
fn checksum(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
