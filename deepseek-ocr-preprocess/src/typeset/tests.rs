//! Text to pages as a whole.

mod fonts;
mod growth;
mod parts;

use crate::{Arrangement, Compression, Font, Margins, Missing, Page, Style, Typeset, Typesetter};
use deepseek_ocr_core::{Error, Mode};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

const CJK: &[u8] = include_bytes!("../../tests/data/cjk.ttf");

/// Scripts, directions, combining marks, tabs, a table of symbols.
const MIXED: &str = "Ligatures in office, kerning in AVATAR; “quotes” — dashes…\tand a tab.\n\
    Ελληνικά, кириллица, հայերեն, ქართული, e\u{301}tude.\nעברית: שלום 123 (and back), العربية كذلك.\n\
    ∑∫√≈ ☃ \u{200b}\u{2066}isolated\u{2069}.\n";

/// Of the pixels; they change only with the fonts, the text stack or this module.
const PINNED: [&str; 4] = ["ab08acf99a3b8b45", "08fd80b4fb244a67", "7d969ea0d75aca4f", "b2699b354c0fae9b"];

#[cfg(feature = "cjk")]
const PINNED_CJK: &str = "778bc10452501627";

fn digest(typeset: &Typeset) -> String {
    let mut hash = Sha256::new();
    typeset.pages().iter().for_each(|page| hash.update(page.page.rgb().as_raw()));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn prose(characters: usize) -> String {
    let sentence = "The quick brown fox jumps over the lazy dog, 1234567890 times; and then it rests. ";
    sentence.chars().cycle().take(characters).collect()
}

fn flow(width: u32, height: u32) -> Style {
    Style::default().with_page(width, height).with_margins(Margins::all(4)).with_size(9.0).with_gutter(6)
}

/// 16 lines of 40 characters over a page of 512 x 512.
pub(super) fn cells() -> Style {
    let page = Style::default().with_mode(Mode::Tiny).with_margins(Margins::default());
    page.with_font(Font::sans_mono()).with_aligned(2, 5)
}

#[test]
fn pixels_are_the_same_on_every_machine() {
    let styles = [
        cells(),
        Style::default().with_mode(Mode::Small).with_columns(2),
        Style::default().with_mode(Mode::Tiny).with_font(Font::serif()).with_size(13.3).with_leading(1.1),
        cells().with_aligned(4, 8).with_ink([20, 40, 120]).with_paper([250, 240, 220]),
    ];
    let found = styles.map(|style| digest(&Page::typeset(&MIXED.repeat(3), &style).expect("a good style")));
    assert_eq!(found, PINNED);
}

#[test]
fn long_text_flows_over_pages_without_a_gap() {
    let text = prose(10_000);
    let typeset = Page::typeset(&text, &cells()).expect("a good style");
    // 40 columns and 16 lines hold 640 characters at most, and the ends of lines stay empty.
    assert!((16..20).contains(&typeset.pages().len()), "{}", typeset.pages().len());
    check_cover(&text, &typeset);
    for page in typeset.pages() {
        assert_eq!((page.page.width(), page.page.height()), (512, 512));
        assert!(page.lines.len() <= 16 && page.lines.iter().all(|line| line.len() <= 40));
        assert!(page.page.rgb().as_raw().iter().any(|&sample| sample < 64), "there is ink on it");
    }
    let words: Vec<_> = text.split_whitespace().collect();
    let lines = typeset.pages().iter().flat_map(|page| &page.lines);
    let read: Vec<_> = lines.flat_map(|line| text[line.clone()].split_whitespace()).collect();
    assert_eq!(read, words);
}

#[test]
fn no_text_has_no_page_and_a_line_feed_has_one() {
    let pages = |text| Page::typeset(text, &cells()).expect("a good style").pages().len();
    assert_eq!((pages(""), pages("\n"), pages(" "), pages("a\x0c"), pages("a\x0cb")), (0, 1, 1, 1, 2));
}

#[test]
fn what_no_font_has_is_reported() {
    let typeset = Page::typeset("ab𒀀c\n\u{1}𒀁 \u{ad}\u{feff}\u{3000}x", &cells()).expect("a good style");
    let missing = |character, at| Missing { character, at };
    assert_eq!(typeset.missing(), [missing('𒀀', 2), missing('\u{1}', 8), missing('𒀁', 9)]);

    let style = cells().with_fallback(Font::from_bytes(CJK).expect("a font"));
    assert_eq!(Page::typeset("中文 日本語の、한국어。", &style).expect("a good style").missing(), []);
}

/// The feature's font stands in for what the others lack, in whatever style.
#[cfg(feature = "cjk")]
#[test]
fn chinese_japanese_and_korean_are_set() {
    let text = "深度求索的光学压缩。日本語の文字、カタカナ。한국어 글자도.";
    let typeset = Page::typeset(text, &cells()).expect("a good style");
    assert_eq!(typeset.missing(), []);
    assert_eq!(digest(&typeset), PINNED_CJK);
}

#[test]
fn what_is_wider_than_a_column_is_reported() {
    // One character that is as long as a sentence.
    let typeset = Page::typeset("a \u{fdfd}", &flow(40, 40)).expect("a good style");
    assert_eq!(typeset.missing(), [Missing { character: '\u{fdfd}', at: 2 }]);
}

#[test]
fn columns_stand_side_by_side() {
    let style = flow(200, 60).with_columns(2);
    let typeset = Page::typeset(&"x\n".repeat(5), &style).expect("a good style");
    let has_ink = |page: &Page, columns: std::ops::Range<u32>| {
        columns.into_iter().any(|x| (0..60).any(|y| page.rgb().get_pixel(x, y).0[0] < 128))
    };
    let one = &typeset.pages()[0].page;
    // Four lines fit a column.
    assert_eq!(typeset.pages().len(), 1);
    assert!(has_ink(one, 0..20) && !has_ink(one, 20..100) && has_ink(one, 103..120));
}

/// Where the characters of text in blocks are drawn: their cells, in the order of the text.
#[test]
fn blocks_fill_one_token_after_the_other() {
    let style = cells().with_page(128, 128).with_blocks(2, 4);
    let drawn = |text: &str| Page::typeset(text, &style).expect("a good style").into_pages().remove(0);
    let cell = |page: &Page, at: u32| {
        let (block, inside) = (at / 8, at % 8);
        let (x, y) = (block % 2 * 64 + inside % 4 * 16, block / 2 * 64 + inside / 4 * 32);
        (0..16 * 32).any(|i| page.rgb().get_pixel(x + i % 16, y + i / 16).0[0] < 128)
    };
    for at in [0, 3, 4, 8, 15, 16, 31] {
        let page = drawn(&format!("{}x", " ".repeat(at as usize)));
        let inked: Vec<u32> = (0..32).filter(|&other| cell(&page, other)).collect();
        assert_eq!(inked, [at]);
    }
    // A paragraph's end, of one or two bytes, and a tab take a cell each and can be seen.
    assert_eq!(digest_of(&drawn("a\nb\r\nc\td")), digest_of(&drawn("a\u{b6}b\u{b6}c\u{2192}d")));
    let typeset = Page::typeset(&"words, ".repeat(9), &style).expect("a good style");
    let lines: Vec<usize> = typeset.pages().iter().flat_map(|page| page.lines.iter().map(|line| line.len())).collect();
    assert_eq!((typeset.pages().len(), lines), (2, [[4; 15].as_slice(), &[3]].concat()));
}

#[test]
fn colours_are_those_of_the_style() {
    let style = cells().with_ink([200, 10, 20]).with_paper([1, 250, 230]);
    let page = Page::typeset("████", &style).expect("a good style").into_pages().remove(0);
    assert_eq!(page.rgb().get_pixel(20, 16).0, [200, 10, 20]);
    assert_eq!(page.rgb().get_pixel(500, 500).0, [1, 250, 230]);
}

#[test]
fn what_is_wrong_with_a_style_is_named() {
    let aligned = |lines, wide| Style { arrangement: Arrangement::Aligned { lines, characters: wide }, ..cells() };
    let wide = Margins { left: 300, right: 300, ..Margins::default() };
    for (style, named) in [
        (Style::default().with_size(0.0), "size is 0, expected 1 to 256"),
        (Style::default().with_size(f32::NAN), "size is NaN"),
        (Style::default().with_size(-3.0), "size is -3"),
        (Style::default().with_size(f32::INFINITY), "size is inf"),
        (Style::default().with_leading(0.0), "leading is 0"),
        (Style::default().with_page(0, 100), "width is 0"),
        (Style::default().with_page(100, 1 << 20), "height is 1048576"),
        (Style::default().with_columns(0), "columns is 0"),
        (Style::default().with_columns(40), "each column is -7.2 px wide"),
        (Style::default().with_tab(0), "tab is 0"),
        (Style::default().with_gutter(u32::MAX), "gutter is 4294967295"),
        (Style::default().with_margins(Margins::all(2000)), "the left margin is 2000, expected 0 to 1024"),
        (cells().with_margins(wide), "each column is -88.0 px wide, expected at least 25.6 px"),
        (Style::default().with_page(640, 70), "the space between the margins is 6 px high"),
        (Style { fonts: Vec::new(), ..Style::default() }, "fonts is empty, expected at least one"),
        (cells().with_columns(2).with_blocks(2, 5), "columns is 2, expected 1 to 1"),
        (cells().with_page(640, 60).with_blocks(2, 5), "640 x 60 px, expected at least 64 x 64 px, a block"),
        (aligned(0, 5), "lines to a token is 0"),
        (aligned(2, 65), "characters to a token is 65, expected 1 to 64"),
    ] {
        let error = Typesetter::new(style).expect_err(named);
        assert!(matches!(error, Error::InvalidStyle { .. }));
        assert!(error.to_string().contains(named), "{error} should say {named}");
    }
}

#[test]
fn what_is_added_changes_only_its_pages() {
    let text = prose(3000);
    let mut typesetter = Typesetter::new(cells()).expect("a good style");
    let first = typesetter.push_str(&text);
    let pages = first.end;
    assert_eq!(first, 0..pages);
    let before: Vec<Page> = typesetter.pages().iter().map(|page| page.page.clone()).collect();
    assert_eq!(typesetter.push_str(""), pages..pages);
    assert_eq!(typesetter.push_str(" word"), pages - 1..pages);
    for (index, (page, before)) in typesetter.pages().iter().zip(&before).enumerate() {
        let shared = std::ptr::eq(page.page.rgb(), before.rgb());
        assert_eq!(shared, index + 1 < pages, "page {index}");
    }
    // A page that someone holds stays as it was.
    assert_eq!(
        digest_of(&before[pages - 1]),
        digest_of(&Page::typeset(&text, &cells()).expect("good").pages()[pages - 1].page)
    );
}

fn digest_of(page: &Page) -> Vec<u8> {
    Sha256::digest(page.rgb().as_raw()).to_vec()
}

#[test]
fn a_size_is_found_for_a_ratio() {
    let text = prose(8000);
    for (style, ratio) in [(Style::default(), 2.0), (Style::default(), 6.0), (cells(), 3.0), (cells(), 8.0)] {
        let fitted = Page::typeset_to_fit(&text, &style, Compression::new(Mode::Small, ratio, 2000)).expect("it fits");
        assert!(fitted.ratio >= ratio, "{} for {ratio}", fitted.ratio);
        assert_eq!(fitted.vision_tokens, fitted.typeset.pages().len() * 111);
        check_cover(&text, &fitted.typeset);
        if matches!(style.arrangement, Arrangement::Flow { .. }) {
            // A page more would be too many, so the size is not smaller than it has to be.
            assert!(2000.0 / ((fitted.vision_tokens + 111) as f64) < ratio);
        }
    }
    let size = |ratio| {
        let wanted = Compression::new(Mode::Small, ratio, 2000);
        Page::typeset_to_fit(&text, &Style::default(), wanted).expect("it fits").style.size
    };
    assert!(size(2.0) > size(4.0) && size(4.0) > size(6.0));
}

#[test]
fn a_ratio_out_of_reach_is_an_error_that_says_what_is_reached() {
    let text = prose(30_000);
    let fit = |ratio| Page::typeset_to_fit(&text, &cells(), Compression::new(Mode::Tiny, ratio, 7500));
    let error = fit(60.0).expect_err("half a page for 30,000 characters");
    assert!(error.to_string().starts_with("invalid request: ratio is 60, expected at most "), "{error}");
    for ratio in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(fit(ratio), Err(Error::InvalidRequest { field: "ratio", .. })));
    }
    let short = Page::typeset_to_fit("A word.", &Style::default(), Compression::new(Mode::Tiny, 10.0, 2));
    let short = short.expect("one page is the least");
    assert_eq!((short.vision_tokens, short.style.size), (73, 96.0));
    let none = Page::typeset_to_fit("", &Style::default(), Compression::new(Mode::Tiny, 10.0, 0)).expect("no page");
    assert_eq!((none.vision_tokens, none.ratio), (0, 0.0));
}

/// Pages hold the text without gap and overlap, and lines lie within their page.
fn check_cover(text: &str, typeset: &Typeset) {
    let mut end = 0;
    for page in typeset.pages() {
        assert_eq!(page.range.start, end);
        end = page.range.end;
        for line in &page.lines {
            assert!(page.range.start <= line.start && line.end <= page.range.end);
            assert!(text.get(line.clone()).is_some(), "lines begin and end at characters");
        }
    }
    assert_eq!(end, text.len());
}

fn styles() -> impl Strategy<Value = Style> {
    let cjk = Font::from_bytes(CJK).expect("a font");
    prop_oneof![
        Just(flow(90, 50)),
        Just(flow(160, 40).with_columns(3).with_leading(0.7)),
        Just(flow(24, 60).with_font(Font::serif()).with_leading(1.0)),
        Just(cells().with_page(128, 64)),
        Just(cells().with_page(64, 64).with_aligned(4, 10).with_fallback(cjk.clone())),
        Just(cells().with_page(150, 128).with_blocks(3, 4).with_fallback(cjk)),
        Just(flow(100, 80).with_font(Font::sans_mono()).with_paper([9, 99, 199]).with_tab(3)),
    ]
}

/// Text in which much happens: white space of all kinds, directions, marks, wide and missing characters.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        6 => "[a-z]{1,7} ",
        2 => "[A-Za-z0-9,.;:!?()'\"/$%&-]{1,9}",
        2 => "[אבגשםםןץ]{1,5} ?",
        2 => "[ابتحسلمهي]{1,5} ?",
        1 => "[深度求索。、「」の한국]{1,6}",
        1 => "[\u{301}\u{308}\u{200d}\u{200f}\u{202e}\u{2067}\u{2069}\u{ad}\u{fe0f}\u{a0}]",
        1 => "[\n\r\t \u{b}\u{c}\u{85}\u{2028}]{1,3}",
        1 => "[😀🇩🇪👩\u{1}\u{0}𝔘﷽ﬁffi]{1,3}",
    ];
    prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn any_text_is_set_whole(text in any::<String>(), style in styles()) {
        check_cover(&text, &Page::typeset(&text, &style).expect("a good style"));
    }

    #[test]
    fn lively_text_is_set_whole(text in texts(), style in styles()) {
        check_cover(&text, &Page::typeset(&text, &style).expect("a good style"));
    }

    #[test]
    fn text_in_parts_is_as_text_at_once(parts in prop::collection::vec(texts(), 1..5), cut in any::<prop::sample::Index>(), style in styles()) {
        let mut typesetter = Typesetter::new(style.clone()).expect("a good style");
        for part in &parts {
            // Some are cut anywhere, within a cluster too.
            let mut at = cut.index(part.len() + 1);
            while !part.is_char_boundary(at) {
                at -= 1;
            }
            let before = typesetter.pages().to_vec();
            let changed = typesetter.push_str(&part[..at]);
            let same = |index: usize| typesetter.pages().get(index) == before.get(index);
            prop_assert!((0..changed.start).all(same));
            typesetter.push_str(&part[at..]);
        }
        let whole = Page::typeset(&parts.concat(), &style).expect("a good style");
        prop_assert_eq!(typesetter.missing(), whole.missing());
        prop_assert!(typesetter.finish() == whole);
    }
}
