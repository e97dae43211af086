//! Text in parts is set as text at once.

use super::*;

/// Where a part may end so that what follows changes what stands: in a cluster, between carriage return and line feed, in runs of
/// either direction, at white space, at brackets, before a page's end.
const TEXTS: [&str; 14] = [
    "A?,0,?:\u{301}هه",
    "e\u{301}\u{308}tude 👩\u{200d}👩\u{200d}👧 🇩🇪🇩🇪 ﷽ ffi fi",
    "one\r\ntwo\rthree\n\rfour\r",
    "a\x0c\nb\x0cc\u{2028}\u{85}d\x0b",
    "שלום (123) abc, עולם: 12-34 [x] \u{202b}ab אב\u{202c} .",
    "12 (אב) 34 - abc אב גד",
    "123 456 אב 789",
    "אב \u{2067}abc (def\u{2069}) [גד] \u{2068}1 אב\u{2069} !",
    "العربية كذلك، ١٢٣ (لا) ab",
    "a  )  )  )  b      c ) \u{a0} d",
    "word-word word/word \"quoted\" — dash…\tand\t\ttabs   ",
    "深度求索。「光学」、ab한국어",
    "a\u{200b}b\u{2060}c\u{ad}d\u{200f}e\u{200d}\u{301}f",
    "longwordthatdoesnotfitanycolumnatall then short ones",
];

fn page_styles() -> Vec<Style> {
    let cjk = Font::from_bytes(CJK).expect("a font");
    vec![
        flow(90, 50),
        flow(24, 60).with_font(Font::serif()).with_leading(1.0),
        cells().with_page(64, 64).with_aligned(4, 10).with_fallback(cjk.clone()),
        cells().with_page(150, 128).with_blocks(3, 4).with_fallback(cjk),
    ]
}

fn in_parts<'a>(parts: impl IntoIterator<Item = &'a str>, style: &Style) -> Typeset {
    let mut typesetter = Typesetter::new(style.clone()).expect("a good style");
    for part in parts {
        let before = typesetter.pages().to_vec();
        let changed = typesetter.push_str(part);
        assert!((0..changed.start).all(|index| typesetter.pages().get(index) == before.get(index)));
    }
    typesetter.finish()
}

#[test]
fn text_may_be_split_anywhere() {
    for style in page_styles() {
        for text in TEXTS {
            let text = text.repeat(2);
            let whole = Page::typeset(&text, &style).expect("a good style");
            for (at, _) in text.char_indices() {
                let (start, end) = text.split_at(at);
                assert!(in_parts([start, end, ""], &style) == whole, "{start:?} {end:?} in {:?}", style.arrangement);
            }
            let one_by_one = in_parts(text.split_inclusive(|_: char| true), &style);
            assert!(one_by_one == whole, "{text:?} in {:?}", style.arrangement);
        }
    }
}

/// Whether a run is long enough to be cut depends on all of it.
#[test]
fn a_segment_longer_than_a_piece_may_be_split_anywhere() {
    for style in page_styles() {
        for unit in ["TWFu", "אבגד", "ابتث", "e\u{301}", "深度", "a )", "\u{301}", "\u{200d}", "ᄀ", "אa1("]
        {
            let text: String = unit.chars().cycle().take(2600).collect();
            let whole = Page::typeset(&text, &style).expect("a good style");
            let boundary = |at: usize| text.floor_char_boundary(at);
            for at in [1, 600, 1023, 1024, 1025, 1030, 2047, 2048, 2049, 2500].map(boundary) {
                let (start, end) = text.split_at(at);
                assert!(in_parts([start, end], &style) == whole, "{unit:?} at {at} in {:?}", style.arrangement);
            }
        }
    }
}

/// In which font and script `:` is set depends on the word before it: a line that begins there must not be set anew without that.
#[test]
fn a_line_that_begins_within_a_word_of_two_scripts_stays_as_it_is() {
    let style = &page_styles()[3];
    let whole = Page::typeset("A?,0,?:\u{301}هه", style).expect("a good style");
    assert!(in_parts(["A?,0,?:\u{301}هه", ""], style) == whole);
    assert!(in_parts(["A?,0,?:\u{301}هه", "x"], style) == Page::typeset("A?,0,?:\u{301}ههx", style).expect("good"));
}

#[test]
fn marks_without_end_are_drawn_up_to_a_limit_and_then_reported() {
    let text = format!("a{}b", "\u{301}".repeat(3000));
    let typeset = Page::typeset(&text, &flow(90, 50)).expect("a good style");
    let missing: Vec<usize> = typeset.missing().iter().map(|missing| missing.at).collect();
    let expected: Vec<usize> = (0..3000).map(|index| 1 + 2 * index).filter(|&at| at >= 2047).collect();
    assert_eq!(missing, expected);
    assert_eq!(typeset.pages()[0].lines, std::slice::from_ref(&(0..text.len())));
    // Some dozens are as they always were.
    let few = format!("a{}b", "\u{301}".repeat(400));
    assert_eq!(Page::typeset(&few, &flow(90, 50)).expect("a good style").missing(), []);
}
