//! Directions (UAX 9) of the characters of a paragraph that grows.
//!
//! What is added can change the levels of what is there, but seldom far back: only of what stands behind the last letter or
//! digit, behind a bracket that it closes, or in an embedding or isolate that is open. The levels are computed anew from there.

use super::work;
use unicode_bidi::{BidiClass, BidiDataSource, HardcodedBidiData, Level, ParagraphBidiInfo, bidi_class};

/// UAX 9 gives up on brackets when more than 63 are open (BD16); near that, levels are computed from one place on.
const MOST_BRACKETS: usize = 60;

/// The level of each byte of a paragraph.
#[derive(Debug)]
pub(crate) struct Directions {
    /// Empty while all text runs from left to right.
    levels: Vec<Level>,
    /// The paragraph's own; `None` before its first letter.
    base: Option<Level>,
    /// So many bytes have been looked at.
    scanned: usize,
    /// Embeddings and isolates that are open, and how many isolates are.
    open: Vec<Scope>,
    isolates: usize,
    brackets: Vec<Bracket>,
    /// More brackets were open than are kept.
    many_brackets: bool,
    last: Last,
    /// The levels before it stand.
    safe: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Embedding,
    Isolate,
}

/// A place from which levels can be computed, and what stands for the text before it.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    at: usize,
    strong: Option<char>,
    number: Option<char>,
}

/// An opening bracket outside of embeddings and isolates.
#[derive(Debug, Clone, Copy)]
struct Bracket {
    opening: char,
    /// Where levels are computed from when it is closed.
    place: Place,
    /// Whether an embedding or isolate has been since: it may be that nothing closes the bracket any more.
    doubtful: bool,
}

/// What the class of a digit or mark depends on.
#[derive(Debug, Clone, Copy)]
struct Last {
    strong: Strong,
    number: Option<char>,
    /// Whether nothing but marks came since the letter or number.
    settled: bool,
}

#[derive(Debug, Clone, Copy)]
enum Strong {
    /// The start of the paragraph.
    Start,
    Letter(char),
    /// An embedding or isolate.
    Unknown,
}

impl Default for Directions {
    fn default() -> Self {
        Self {
            levels: Vec::new(),
            base: None,
            scanned: 0,
            open: Vec::new(),
            isolates: 0,
            brackets: Vec::new(),
            many_brackets: false,
            last: Last { strong: Strong::Start, number: None, settled: false },
            safe: Place::default(),
        }
    }
}

impl Directions {
    /// Takes a paragraph to which text was added from byte `from` on; says up to which byte the levels of before stand.
    pub(crate) fn extend(&mut self, body: &str, from: usize) -> usize {
        work::count(body.len() - from);
        if self.levels.is_empty() && !has_direction(&body[from..]) {
            return from;
        }
        let base = self.base();
        let before = self.safe;
        let closed = self.scan(body);
        if closed.is_none() && self.base() == base && self.levels.len() == from && goes_on(body, from) {
            let level = self.level(from.saturating_sub(1));
            self.levels.resize(body.len(), level);
            return from;
        }
        let mut place = closed.filter(|closed| closed.at < before.at).unwrap_or(before);
        if self.levels.is_empty() {
            // All that was there runs from left to right, unless it has no letter.
            self.levels.resize(from, Level::ltr());
            place = Place::default();
        }
        if self.base() != base {
            place = Place::default();
        }
        let context: String = place.strong.into_iter().chain(place.number).collect();
        let text = format!("{context}{}", &body[place.at..]);
        work::count(text.len());
        let info = ParagraphBidiInfo::new(&text, Some(self.base()));
        let levels = &info.levels[context.len()..];
        let known = &self.levels[place.at..];
        let same = if self.base() == base {
            known.iter().zip(levels).take_while(|(known, level)| known == level).count()
        } else {
            0
        };
        self.levels.truncate(place.at + same);
        self.levels.extend_from_slice(&levels[same..]);
        place.at + same
    }

    /// Whether all runs from left to right, without a level but the lowest.
    pub(crate) fn is_plain(&self) -> bool {
        self.levels.is_empty()
    }

    /// The paragraph's own level.
    pub(crate) fn base(&self) -> Level {
        self.base.unwrap_or(Level::ltr())
    }

    pub(crate) fn level(&self, at: usize) -> Level {
        self.levels.get(at).copied().unwrap_or(self.base())
    }

    /// Looks at what has not been looked at; the place before the first bracket that it closes.
    fn scan(&mut self, body: &str) -> Option<Place> {
        let mut earliest: Option<Place> = None;
        let scanned = std::mem::replace(&mut self.scanned, body.len());
        for (offset, character) in body[scanned..].char_indices() {
            let closed = self.step(scanned + offset, character);
            earliest = match (earliest, closed) {
                (Some(a), Some(b)) => Some(if b.at < a.at { b } else { a }),
                (a, b) => a.or(b),
            };
        }
        work::count(body.len() - scanned);
        earliest
    }

    fn step(&mut self, at: usize, character: char) -> Option<Place> {
        use BidiClass::{AL, AN, BN, EN, FSI, L, LRE, LRI, LRO, NSM, PDF, PDI, R, RLE, RLI, RLO};
        let class = bidi_class(character);
        if self.base.is_none() && matches!(class, L | R | AL) && self.isolates == 0 {
            self.base = Some(if class == L { Level::ltr() } else { Level::rtl() });
        }
        match class {
            LRE | RLE | LRO | RLO => self.open.push(Scope::Embedding),
            LRI | RLI | FSI => {
                self.open.push(Scope::Isolate);
                self.isolates += 1;
                // Behind an isolate, what `unicode-bidi` finds for a bracket depends on the first letters before the isolate.
                self.safe = Place::default();
                self.interrupt();
                return Some(self.safe);
            }
            PDF => {
                self.open.pop_if(|scope| *scope == Scope::Embedding);
            }
            PDI if self.isolates > 0 => {
                while self.open.pop() == Some(Scope::Embedding) {}
                self.isolates -= 1;
            }
            PDI => {}
            _ if !self.open.is_empty() => return None,
            L | R | AL => {
                self.last = Last { strong: Strong::Letter(character), number: None, settled: true };
                self.set_safe(Place { at, strong: None, number: None });
                return None;
            }
            EN | AN => {
                self.last = Last { number: Some(character), settled: true, ..self.last };
                self.set_safe_after_last(at, None);
                return None;
            }
            NSM | BN => {
                if self.last.settled {
                    self.set_safe_after_last(at, self.last.number);
                }
                return None;
            }
            _ => {
                self.last.settled = false;
                return self.bracket(character);
            }
        }
        self.interrupt();
        None
    }

    /// An embedding or isolate begins or ends.
    fn interrupt(&mut self) {
        self.last = Last { strong: Strong::Unknown, number: None, settled: false };
        self.brackets.iter_mut().for_each(|bracket| bracket.doubtful = true);
    }

    fn set_safe_after_last(&mut self, at: usize, number: Option<char>) {
        match self.last.strong {
            Strong::Start => self.set_safe(Place { at, strong: None, number }),
            Strong::Letter(letter) => self.set_safe(Place { at, strong: Some(letter), number }),
            Strong::Unknown => {}
        }
    }

    fn set_safe(&mut self, place: Place) {
        if !self.many_brackets {
            self.safe = place;
        }
    }

    /// Keeps an opening bracket; the place before the one that a closing bracket belongs to.
    fn bracket(&mut self, character: char) -> Option<Place> {
        let bracket = HardcodedBidiData.bidi_matched_opening_bracket(character)?;
        let opening = bracket.opening;
        if bracket.is_open {
            if self.many_brackets {
                return None;
            }
            self.brackets.push(Bracket { opening, place: self.safe, doubtful: false });
            if self.brackets.len() < MOST_BRACKETS {
                return None;
            }
            self.many_brackets = true;
            self.safe = self.brackets[0].place;
            return Some(self.safe);
        }
        if self.many_brackets {
            return None;
        }
        let index = self.brackets.iter().rposition(|bracket| bracket.opening == opening)?;
        let place = self.brackets[index].place;
        if self.brackets[index].doubtful {
            self.brackets.remove(index);
            self.brackets[index..].iter_mut().for_each(|inside| inside.place = place);
        } else {
            self.brackets.truncate(index);
        }
        // What stands between the two is no place any more: from there, the closing bracket would close nothing.
        self.safe = place;
        Some(place)
    }
}

/// Whether all that is added from byte `from` on takes the level of the character before it, and changes no other: because it is
/// of that one's class, or does nothing until something else follows.
fn goes_on(body: &str, from: usize) -> bool {
    use BidiClass::{BN, FSI, LRE, LRI, LRO, PDF, PDI, RLE, RLI, RLO};
    let Some(last) = body[..from].chars().next_back() else { return false };
    let class = bidi_class(last);
    let is_bracket = |character| HardcodedBidiData.bidi_matched_opening_bracket(character).is_some();
    let alike = |character| bidi_class(character) == class && !is_bracket(character);
    let isolates = matches!(class, FSI | LRI | RLI | PDI);
    let removed = |character| matches!(bidi_class(character), BN | LRE | RLE | LRO | RLO | PDF);
    !isolates && body[from..].chars().chain([last]).all(alike) || body[from..].chars().all(removed)
}

/// Whether any character runs from right to left or changes direction.
pub(crate) fn has_direction(text: &str) -> bool {
    use BidiClass::{AL, AN, FSI, LRE, LRI, LRO, PDF, PDI, R, RLE, RLI, RLO};
    let directed =
        |character| matches!(bidi_class(character), AL | AN | FSI | LRE | LRI | LRO | PDF | PDI | R | RLE | RLI | RLO);
    // The first such character is U+0590.
    text.chars().any(|character| character >= '\u{590}' && directed(character))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Letters, digits, marks, separators of numbers, brackets of two kinds, white space and explicit directions.
    fn texts() -> impl Strategy<Value = String> {
        let calm = "[a-bאבاب1-2٠١\u{301}\u{5b0}\u{200b}+,$% !()\\[\\]〈〉《》]";
        let wild = "[\u{202a}-\u{202e}\u{2066}-\u{2069}\u{200e}\u{200f}\u{ad}]";
        let part = prop_oneof![12 => calm, 2 => wild, 1 => "\u{202b}{1,70}", 1 => "\\({1,30}", 1 => "[)]{1,4}"];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    fn at_once(body: &str) -> (Vec<Level>, Level) {
        let info = ParagraphBidiInfo::new(body, None);
        (info.levels, info.paragraph_level)
    }

    /// Adds a text in steps of so many characters, and compares after each.
    fn check(text: &str, step: usize) {
        let mut directions = Directions::default();
        let mut from = 0;
        let ends = text.char_indices().map(|(at, _)| at).skip(1).step_by(step).chain([text.len()]);
        for end in ends {
            let known: Vec<Level> = (0..from).map(|at| directions.level(at)).collect();
            let base = directions.base();
            let stands = directions.extend(&text[..end], from);
            let (levels, own) = at_once(&text[..end]);
            let found: Vec<Level> = (0..end).map(|at| directions.level(at)).collect();
            assert_eq!(found, levels, "{:?}", &text[..end]);
            assert_eq!(directions.base(), own);
            assert!(stands <= from && known[..stands] == found[..stands]);
            assert!(stands == 0 || base == own);
            from = end;
        }
    }

    #[test]
    fn what_closes_changes_what_it_closed() {
        let dozens = format!("{}a{}ا)ا[", "(".repeat(33), "(".repeat(31));
        let texts = [
            // Letters between brackets, and what follows them.
            "\u{200e}א[ا] +\u{5b0}",
            // Brackets that an isolate stands between, and one that no isolate opened.
            "א\u{200e}\u{2066}]\u{2069}(a)",
            "]1aא[\u{2069}א(]٠)\u{301}",
            // The first letter decides on what stands before it.
            "12 (34) - אב cd",
            "\u{202b}12\u{202c} 3 א",
            &dozens,
        ];
        for text in texts {
            (1..4).for_each(|step| check(text, step));
        }
    }

    proptest! {
        #[test]
        fn levels_of_text_in_parts_are_those_of_text_at_once(text in texts(), step in 1usize..4) {
            check(&text, step);
        }
    }
}
