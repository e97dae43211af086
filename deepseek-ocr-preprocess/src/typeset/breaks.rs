//! Opportunities for line breaks (UAX 14) in text that grows.

use super::work;
use unicode_linebreak::{BreakClass, break_property, linebreaks, split_at_safe};

/// Contexts longer than this, in bytes, are shortened.
const LONG_CONTEXT: usize = 64;

/// Twice two characters of so many are left out if they go on as the others.
const REPEATED: usize = 12;

/// Where the lines of a paragraph may break.
#[derive(Debug, Default)]
pub(crate) struct Breaks {
    /// Bytes of the paragraph, in order; without its end.
    found: Vec<usize>,
    /// Text after which breaks are found as they are after the paragraph so far.
    context: String,
    length: usize,
}

impl Breaks {
    /// Takes what is added to the paragraph.
    pub(crate) fn extend(&mut self, added: &str) {
        let known = self.context.len();
        self.context.push_str(added);
        work::count(self.context.len());
        let inside = |&at: &usize| at >= known && at < self.context.len();
        let breaks = linebreaks(&self.context).map(|(at, _)| at).filter(inside);
        self.found.extend(breaks.map(|at| self.length + at - known));
        self.length += added.len();
        let (before, context) = split_at_safe(&self.context);
        if context.len() > LONG_CONTEXT {
            self.context = shortened(context);
        } else {
            self.context.drain(..before.len());
        }
    }

    /// The end of the segment in which a byte lies.
    pub(crate) fn next(&self, at: usize) -> usize {
        let next = self.found.partition_point(|&found| found <= at);
        self.found.get(next).copied().unwrap_or(self.length)
    }
}

/// A context without what repeats.
///
/// Of marks and joiners the rules ask how they began and which is last; of other runs how they began, or whether they are even or
/// odd (flags are pairs of letters), never how long they are. So it is with two classes in turn.
fn shortened(context: &str) -> String {
    use BreakClass::{CombiningMark, ZeroWidthJoiner};
    let class = |character: char| break_property(u32::from(character));
    let is_mark = |character: &char| matches!(class(*character), CombiningMark | ZeroWidthJoiner);
    let mut kept: Vec<char> = Vec::new();
    for character in context.chars() {
        kept.push(character);
        let length = kept.len();
        if kept[length.saturating_sub(3)..].iter().filter(|character| is_mark(character)).count() == 3 {
            kept.remove(length - 2);
        } else if length >= REPEATED && (length - REPEATED + 2..length).all(|at| class(kept[at]) == class(kept[at - 2]))
        {
            kept.truncate(length - 4);
        }
    }
    kept.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A character of each class that has one.
    fn of_each_class() -> Vec<char> {
        let mut found: Vec<(u8, char)> = Vec::new();
        for character in (0..0x3_0000).filter_map(char::from_u32) {
            let class = break_property(character.into()) as u8;
            if found.iter().all(|(known, _)| *known != class) {
                found.push((class, character));
            }
        }
        found.into_iter().map(|(_, character)| character).collect()
    }

    fn at_once(text: &str) -> Vec<usize> {
        linebreaks(text).map(|(at, _)| at).filter(|&at| at < text.len()).collect()
    }

    fn one_by_one(text: &str) -> Vec<usize> {
        let mut breaks = Breaks::default();
        text.char_indices().for_each(|(at, character)| breaks.extend(&text[at..at + character.len_utf8()]));
        breaks.found
    }

    /// Where lines break in and behind what follows a text.
    fn behind(text: &str, after: &str) -> Vec<usize> {
        at_once(&format!("{text}{after}")).iter().filter_map(|at| at.checked_sub(text.len())).collect()
    }

    #[test]
    fn what_repeats_is_as_if_it_were_short() {
        let classes = of_each_class();
        assert!(classes.len() > 35);
        for &before in &classes {
            for &one in &classes {
                // Alone, and in turn with another that attaches to what is before it or counts.
                for other in [one, '\u{301}', '\u{200d}', ' ', '🇩', '\u{2060}'] {
                    for length in 30..34 {
                        let run = [one, other].into_iter().cycle().take(length);
                        let run = format!("{before}{}", run.collect::<String>());
                        let short = shortened(&run);
                        assert!(short.chars().count() <= REPEATED + 1);
                        for &after in &classes {
                            let after = format!("{after}{after}a 1");
                            let found = behind(&short, &after);
                            assert_eq!(found, behind(&run, &after), "{before:?} {one:?} {other:?} {length} {after:?}");
                        }
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn breaks_of_text_in_parts_are_those_of_text_at_once(
            runs in prop::collection::vec((prop::sample::select(of_each_class()), 1usize..40), 0..12),
            marks in "[a\u{301}\u{200d}\u{308} ]{0,90}",
        ) {
            let text: String = runs.iter().map(|&(character, count)| String::from(character).repeat(count)).collect();
            let text = format!("{text}{marks}{text}");
            prop_assert_eq!(one_by_one(&text), at_once(&text));
        }
    }
}
