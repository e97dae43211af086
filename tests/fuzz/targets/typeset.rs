//! Typesetting: text in parts is as text at once, and pages hold all of it. The first bytes choose the style and where to cut.
#![no_main]

use deepseek_ocr_preprocess::{Font, Margins, Page, Style, Typeset, Typesetter};
use libfuzzer_sys::fuzz_target;

/// The longest text, in bytes: what matters happens within a few pages of it.
const LONGEST: usize = 400;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[style, first, second], text)) = bytes.split_first_chunk() else { return };
    let text = String::from_utf8_lossy(&text[..text.len().min(LONGEST)]);
    let style = style_of(style);
    let whole = Page::typeset(&text, &style).expect("a good style");
    covers(&text, &whole);

    let mut typesetter = Typesetter::new(style).expect("a good style");
    let mut from = 0;
    let cuts = [first, second].map(|cut| boundary(&text, usize::from(cut)));
    for to in [cuts[0].min(cuts[1]), cuts[0].max(cuts[1]), text.len()] {
        let before = typesetter.pages().to_vec();
        let changed = typesetter.push_str(&text[from..to]);
        let same = |index: usize| typesetter.pages().get(index) == before.get(index);
        assert!((0..changed.start).all(same), "a page before {changed:?} changed");
        from = to;
    }
    assert_eq!(typesetter.text(), text);
    assert_eq!(typesetter.missing(), whole.missing());
    assert!(typesetter.finish() == whole, "text in parts is set in another way than at once");
});

fn style_of(choice: u8) -> Style {
    let flow = |width, height| Style::default().with_page(width, height).with_size(10.0).with_margins(Margins::all(3));
    let cells = || Style::default().with_margins(Margins::default()).with_font(Font::sans_mono());
    match choice % 7 {
        0 => flow(90, 50),
        1 => flow(160, 40).with_columns(3).with_gutter(5).with_leading(0.7),
        2 => flow(24, 60).with_font(Font::serif()).with_leading(1.0),
        3 => cells().with_page(128, 64).with_aligned(3, 7),
        4 => cells().with_page(64, 64).with_aligned(4, 10),
        5 => cells().with_page(150, 128).with_blocks(3, 4),
        _ => flow(100, 80).with_font(Font::sans_mono()).with_paper([9, 99, 199]).with_tab(3),
    }
}

/// The last boundary of a character at or before `at`.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

fn covers(text: &str, typeset: &Typeset) {
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
    for missing in typeset.missing() {
        assert!(text[missing.at..].starts_with(missing.character));
    }
}
