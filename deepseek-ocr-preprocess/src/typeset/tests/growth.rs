//! Work grows as the text does. What is counted are characters that are shaped and looked at, clusters that are placed, and glyphs
//! that are drawn; see `work.rs`.

use super::*;
use crate::typeset::work;

/// Longer texts are so many times as long.
const TIMES: usize = 8;

/// Work may grow by so much then: by more than the text, for what is kept is shorter at first.
const GROWTH: u64 = 10;

/// Texts of one kind, of so many characters.
type Make = fn(usize) -> String;

fn cycled(unit: &str, characters: usize) -> String {
    unit.chars().cycle().take(characters).collect()
}

/// What a page can be full of, and what no page is.
const KINDS: &[(&str, Make)] = &[
    ("prose", |n| cycled("The quick brown fox (and 12 dogs) jumps. ", n)),
    ("a word", |n| cycled("TWFuIGlzIGRpc3Rpbmd1aXNoZWQ", n)),
    ("a word in Hebrew", |n| cycled("אבגדהוזחטיכלמנסעפצקרשת", n)),
    ("a word in Arabic", |n| cycled("ابتثجحخدذرزسش", n)),
    ("Hebrew", |n| cycled("שלום עולם (123), זה abc טקסט. ", n)),
    ("digits behind Hebrew", |n| format!("א{}", cycled("1234567890", n))),
    ("Arabic digits", |n| cycled("٠١٢٣٤٥٦٧٨٩", n)),
    ("stops behind Hebrew", |n| format!("א{}", cycled("!", n))),
    ("spaces behind Hebrew", |n| format!("א{}", cycled(" ", n))),
    ("Hebrew in an isolate", |n| format!("\u{2067}{}", cycled("אבגד", n))),
    ("embeddings", |n| cycled("\u{202b}", n)),
    ("ideographs", |n| cycled("深度求索", n)),
    ("spaces", |n| cycled(" ", n)),
    ("tabs", |n| cycled("\t", n)),
    ("hung brackets", |n| cycled(" )", n)),
    ("line feeds", |n| cycled("\n", n)),
    ("carriage returns", |n| cycled("\r", n)),
    ("both", |n| cycled("\r\n", n)),
    ("form feeds", |n| cycled("\x0c", n)),
    ("marks", |n| format!("a{}", cycled("\u{301}", n))),
    ("points", |n| format!("א{}", cycled("\u{5b8}", n))),
    ("marks in turn with joiners", |n| format!("a{}", cycled("\u{301}\u{200d}", n))),
    ("spaces without width", |n| cycled("\u{200b}", n)),
    ("joiners", |n| cycled("\u{200d}", n)),
    ("right-to-left marks", |n| cycled("\u{200f}", n)),
    ("word joiners", |n| cycled("\u{2060}", n)),
    ("soft hyphens", |n| cycled("\u{ad}", n)),
    ("flags", |n| cycled("🇩🇪", n)),
    ("jamo", |n| cycled("ᄀ", n)),
    ("joined emoji", |n| cycled("👩\u{200d}", n)),
    ("what no font has", |n| cycled("𒀀", n)),
    ("what is wider than a column", |n| cycled("\u{fdfd}", n)),
    ("brackets", |n| cycled("(", n)),
];

/// Only at once: what stands in an isolate, or behind dozens of brackets that nothing closes, is ordered anew as it grows.
const KINDS_AT_ONCE: &[(&str, Make)] = &[
    ("isolates", |n| cycled("\u{2067}", n)),
    ("isolates that choose", |n| cycled("\u{2068}", n)),
    ("embeddings in turn", |n| cycled("\u{202b}\u{202c}", n)),
    ("sentences in an isolate", |n| format!("\u{2067}{}", cycled("אבגד (12) abc. ", n))),
    ("nested brackets in Hebrew", |n| format!("א{}a{}", cycled("(", n / 2), cycled(")", n / 2))),
];

fn page_styles() -> [Style; 2] {
    [flow(90, 50), cells().with_page(64, 64).with_blocks(3, 4)]
}

fn pushed(text: &str, style: &Style) -> u64 {
    let mut typesetter = Typesetter::new(style.clone()).expect("a good style");
    work::of(|| {
        for (at, character) in text.char_indices() {
            typesetter.push_str(&text[at..at + character.len_utf8()]);
        }
    })
}

fn check(kind: &str, style: &Style, work: impl Fn(usize) -> u64, characters: usize) {
    let (short, long) = (work(characters), work(characters * TIMES));
    assert!(long < short * GROWTH, "{kind} in {:?}: {short} steps, then {long}", style.arrangement);
}

/// 2048 characters are whole pieces, however many bytes each has: what grows is shaped anew as often as in longer texts.
#[test]
fn text_pushed_one_character_at_a_time_costs_its_length() {
    let [flow, blocks] = page_styles();
    for (style, kinds) in [(flow, KINDS), (blocks, &KINDS[..5])] {
        for (kind, make) in kinds {
            check(kind, &style, |n| pushed(&make(n), &style), 2048);
        }
    }
}

#[test]
fn text_set_at_once_costs_its_length() {
    for style in page_styles() {
        for (kind, make) in KINDS.iter().chain(KINDS_AT_ONCE) {
            let work = |n| work::of(|| drop(Page::typeset(&make(n), &style).expect("a good style")));
            check(kind, &style, work, 4000);
        }
    }
}

/// A word of 16,000 characters, one at a time: as much work for each character as in one of 2,000, and no more than twice a piece.
#[test]
fn a_character_of_a_long_word_costs_no_more_than_one_of_a_short_word() {
    let style = Style::default();
    let each =
        |characters: usize| pushed(&cycled("TWFuIGlzIGRpc3Rpbmd1aXNoZWQ", characters), &style) / characters as u64;
    let (short, long) = (each(2_000), each(16_000));
    assert!(long < short * 3 / 2, "{short} steps a character, then {long}");
}

#[test]
fn blank_pages_share_their_pixels() {
    let typeset = Page::typeset(&"\x0c".repeat(2000), &Style::default()).expect("a good style");
    assert_eq!(typeset.pages().len(), 2000);
    let first = typeset.pages()[0].page.rgb();
    assert!(typeset.pages().iter().all(|page| std::ptr::eq(page.page.rgb(), first)));
}
