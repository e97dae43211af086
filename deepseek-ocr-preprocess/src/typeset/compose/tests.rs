//! Where lines break and what they show.

use super::*;
use crate::{Font, Style, typeset::tests::cells};

const CJK: &[u8] = include_bytes!("../../../tests/data/cjk.ttf");

fn style(columns: u32) -> Style {
    // Cells of 8 x 16 px.
    cells().with_page(columns * 8, 160).with_aligned(4, 8)
}

fn compose(text: &str, style: &Style) -> Vec<Line> {
    let frame = Frame::new(style).expect("a good style");
    let mut shaper = Shaper::new(style.fonts.clone(), &frame);
    let mut composer = Composer::default();
    composer.extend(text, Tools { frame: &frame, shaper: &mut shaper });
    assert_eq!(composer.missing, []);
    composer.lines
}

fn wrapped(text: &str, columns: u32) -> Vec<&str> {
    let lines = compose(text, &style(columns));
    lines.iter().map(|line| &text[line.range.start..line.text_end]).collect()
}

/// What a line shows from left to right, each glyph as the character that has it.
fn seen(text: &str, columns: u32) -> Vec<String> {
    let style = style(columns).with_font(Font::sans()).with_size(12.0);
    let known = |glyph: &Glyph| {
        let mut characters = text.chars().chain(")(".chars());
        let of = |c: &char| style.fonts[0].face().charmap().map_unicode(*c).is_some_and(|id| id.to_u32() == glyph.id);
        characters.find(of).expect("a glyph of the text")
    };
    compose(text, &style).iter().map(|line| line.glyphs.iter().map(known).collect()).collect()
}

#[test]
fn lines_break_at_spaces_and_hyphens() {
    assert_eq!(wrapped("the quick brown fox", 9), ["the quick", "brown fox"]);
    assert_eq!(wrapped("the quick brown fox", 8), ["the", "quick", "brown", "fox"]);
    assert_eq!(wrapped("a well-known fact", 8), ["a well-", "known", "fact"]);
    assert_eq!(wrapped("no\u{a0}break here", 9), ["no\u{a0}break", "here"]);
}

#[test]
fn what_is_longer_than_a_line_is_cut() {
    assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
    assert_eq!(wrapped("to abcdefghij", 4), ["to", "abcd", "efgh", "ij"]);
    // Never within what is one character to a reader.
    assert_eq!(wrapped("xe\u{301}e\u{301}e\u{301}", 2), ["xe\u{301}", "e\u{301}e\u{301}"]);
}

#[test]
fn white_space_hangs_over_the_end_and_indents_the_start() {
    assert_eq!(wrapped("abcd      efgh", 4), ["abcd", "efgh"]);
    assert_eq!(wrapped("abcd\t\t\t\tefgh", 4), ["abcd", "efgh"]);
    assert_eq!(wrapped("  ab cd", 5), ["  ab", "cd"]);
    assert_eq!(wrapped("      \nx", 4), ["", "x"]);
}

#[test]
fn every_separator_ends_a_line() {
    let separators =
        ["\n", "\r\n", "\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1d}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"];
    for separator in separators {
        let text = format!("a{separator}{separator}b{separator}");
        assert_eq!(wrapped(&text, 4), ["a", "", "b"], "{separator:?}");
    }
    assert_eq!(wrapped("", 4), [""; 0]);
    assert_eq!(wrapped("\n\r", 4), ["", ""]);
}

#[test]
fn a_form_feed_begins_a_page() {
    let slots: Vec<_> = compose("a\n\x0cb\x0cc\nd", &style(4)).iter().map(|line| line.slot).collect();
    assert_eq!(slots, [0, 1, 10, 20, 21]);
}

#[test]
fn tabs_reach_their_stops() {
    let cell = 8 * crate::typeset::frame::PIXEL as i32;
    let lines = compose("\ta\tb\nabcd\te", &style(20));
    let cells = |line: &Line| line.glyphs.iter().map(|glyph| glyph.x / cell).collect::<Vec<_>>();
    assert_eq!((cells(&lines[0]), cells(&lines[1])), (vec![4, 8], vec![0, 1, 2, 3, 8]));
}

#[test]
fn each_character_has_its_cell() {
    let lines = compose("ffi To AVA. 123\n", &cells());
    let cell = 64 * crate::typeset::frame::PIXEL / 5;
    let cells: Vec<_> = lines[0].glyphs.iter().map(|glyph| i64::from(glyph.x) / cell).collect();
    assert_eq!(cells, (0..15).collect::<Vec<_>>());
}

#[test]
fn what_runs_from_right_to_left_is_seen_so() {
    assert_eq!(seen("אבג", 20), ["גבא"]);
    assert_eq!(seen("abc אבג 12 def", 20), ["abc 12 גבא def"]);
    assert_eq!(seen("אב abc (גד) 12", 20), ["12 (דג) abc בא"]);
    // Each line is put in order by itself.
    assert_eq!(seen("אב גד הו", 5), ["דג בא", "וה"]);
}

#[test]
fn text_from_right_to_left_begins_at_the_right() {
    let style = style(10).with_font(Font::sans()).with_size(12.0);
    let first = |text: &str| compose(text, &style)[0].glyphs.iter().map(|glyph| glyph.x).min();
    let right = 8 * 8 * crate::typeset::frame::PIXEL as i32;
    assert!(first("אב").is_some_and(|x| x >= right), "two cells from the right end");
    assert!(first("ab").is_some_and(|x| x < right / 8));
}

#[test]
fn arabic_letters_join() {
    let sans = style(10).with_font(Font::sans()).with_size(12.0);
    let glyphs = |text: &str| compose(text, &sans)[0].glyphs.iter().map(|glyph| glyph.id).collect::<Vec<_>>();
    let (joined, apart) = (glyphs("بب"), glyphs("ب ب"));
    assert_eq!((joined.len(), apart.len()), (2, 3));
    assert!(!joined.contains(&apart[0]) && joined[0] != joined[1]);
}

#[test]
fn punctuation_stays_with_its_character() {
    let style = style(8).with_fallback(Font::from_bytes(CJK).expect("a font"));
    let lines = |text: &str| compose(text, &style).iter().map(|l| text[l.range.clone()].to_owned()).collect::<Vec<_>>();
    // Four wide characters to a line of eight cells.
    assert_eq!(lines("深度求索光学文字"), ["深度求索", "光学文字"]);
    assert_eq!(lines("深度求索。光学"), ["深度求", "索。光学"]);
    assert_eq!(lines("深度求「光学」"), ["深度求", "「光学」"]);
}
