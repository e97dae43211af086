//! A number hidden in a text: is it, digit for digit, in what is read?

use crate::{
    pages::Density,
    reader::{Passage, Reader},
    table::{Table, rounded},
    text::{Kind, Random},
};
use anyhow::bail;
use deepseek_ocr::{Mode, Page, Style, Task};

/// Digits of the number.
const DIGITS: u32 = 7;

/// Where numbers are hidden and how many.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The mode of the pages.
    pub mode: Mode,
    /// The density of the pages; only cells, since a ratio would change the size with the length.
    pub density: Density,
    /// Characters of the texts.
    pub lengths: Vec<usize>,
    /// Where the number stands: 0 at the start, 1 at the end.
    pub depths: Vec<f64>,
    /// Texts of each length and depth.
    pub texts: usize,
}

/// What share of the numbers was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Characters of the texts.
    pub length: usize,
    /// Where the numbers stood.
    pub depth: f64,
    /// The share that was found.
    pub recall: f64,
}

impl Plan {
    /// Hides and looks for all numbers; `done` hears of each length and depth.
    ///
    /// # Errors
    /// Those of typesetting and of the model; if the density is one of neither cells nor blocks.
    pub fn measure(&self, reader: &Reader, mut done: impl FnMut(&Found)) -> anyhow::Result<(Vec<Found>, Table)> {
        let style = match self.density {
            Density::Cells(lines, characters) => crate::pages::cells(self.mode, lines, characters),
            Density::Blocks(_) => Style::mini().with_mode(self.mode),
            Density::Ratio(_) => bail!("needles are hidden in cells, as 2x5, or in blocks"),
        };
        let mut table = Table::new(&["mode", "density", "characters", "pages", "depth", "texts", "recall"]);
        let mut all = Vec::new();
        for &length in &self.lengths {
            for &depth in &self.depths {
                let (mut found, mut pages) = (0, 0);
                for text in 0..self.texts {
                    let (needle, text) = hide(text, length, depth);
                    let read = read(reader, self.mode, &style, &text)?;
                    pages = read.len();
                    found += usize::from(read.concat().contains(&needle));
                }
                let recall = found as f64 / self.texts as f64;
                let (place, share) = (rounded(depth, 2), rounded(recall, 3));
                table.push(&[&self.mode, &self.density, &length, &pages, &place, &self.texts, &share]);
                all.push(Found { length, depth, recall });
                done(&Found { length, depth, recall });
            }
        }
        Ok((all, table))
    }
}

/// A number, and prose of so many characters in which it stands once, in a sentence of its own.
fn hide(text: usize, length: usize, depth: f64) -> (String, String) {
    let mut random = Random::new((text as u64) << 32 | (length as u64) << 8 | (depth * 100.0) as u64);
    let low = 10usize.pow(DIGITS - 1);
    let needle = (low + random.below(9 * low)).to_string();
    let sentence = format!("The number of the ticket is {needle}. ");
    let prose = Kind::Prose.sample(text, length.saturating_sub(sentence.len()).max(1));
    let wanted = (depth * prose.len() as f64) as usize;
    let at = prose[..wanted].rfind(' ').map_or(0, |space| space + 1);
    (needle, format!("{}{sentence}{}", &prose[..at], &prose[at..]))
}

/// What is read of a text, page by page.
fn read(reader: &Reader, mode: Mode, style: &Style, text: &str) -> anyhow::Result<Vec<String>> {
    let typeset = Page::typeset(text, style)?;
    let passage = |page: &deepseek_ocr::TypesetPage| Passage {
        vision: reader.ocr.encode(&page.page, mode),
        truth: &text[page.range.clone()],
        task: Task::FreeOcr,
    };
    // A line may break in the sentence, never in the number.
    reader.read(&typeset.pages().iter().map(passage).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_once_where_it_should() {
        for depth in [0.0, 0.5, 1.0] {
            let (needle, text) = hide(3, 1000, depth);
            let at: Vec<usize> = text.match_indices(&needle).map(|(at, _)| at).collect();
            let [at] = at[..] else { panic!("{needle} is there {} times", at.len()) };
            assert!((at as f64 / 1000.0 - depth).abs() < 0.06, "{depth}: {at}");
            assert!(text.len().abs_diff(1000) <= 1 && needle.len() == DIGITS as usize);
        }
    }
}
