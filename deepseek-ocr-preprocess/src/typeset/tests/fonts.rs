//! What a font maps to glyphs that show nothing is drawn in another font, or reported.

use super::*;

/// A colour font: `A` has an outline, U+1F680 only layers.
const COLOURS: &[u8] = include_bytes!("../../../tests/data/colr-v1.ttf");

/// Where the file has the glyph of `A`, the ends of glyphs (half as many bytes), and the outline of `A`.
const GLYPH_OF_A: usize = 0x224;
const LOCA: usize = 0x234;
const OUTLINE_OF_A: usize = 0x25a;

const ROCKET: char = '\u{1f680}';

fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut font = COLOURS.to_vec();
    font[at..at + bytes.len()].copy_from_slice(bytes);
    font
}

fn font(bytes: Vec<u8>) -> Font {
    Font::from_bytes(bytes).expect("a font")
}

/// Two fonts in one file, whose offsets count from its start.
fn collection(fonts: &[Vec<u8>]) -> Vec<u8> {
    let header = 12 + 4 * fonts.len();
    let mut starts = Vec::new();
    let mut body = Vec::new();
    for font in fonts {
        let start = header + body.len();
        starts.push(start as u32);
        let mut font = font.clone();
        let tables = usize::from(u16::from_be_bytes([font[4], font[5]]));
        for offset in (0..tables).map(|table| 12 + 16 * table + 8) {
            let field: &mut [u8; 4] = font[offset..].first_chunk_mut().expect("a table's offset");
            *field = (u32::from_be_bytes(*field) + start as u32).to_be_bytes();
        }
        body.extend(font);
    }
    let count = (fonts.len() as u32).to_be_bytes();
    let starts = starts.iter().flat_map(|start| start.to_be_bytes());
    b"ttcf\0\x01\0\0".iter().copied().chain(count).chain(starts).chain(body).collect()
}

fn missing(text: &str, font: &Font) -> Vec<char> {
    let style = flow(200, 60).with_font(font.clone());
    let typeset = Page::typeset(text, &style).expect("a good style");
    typeset.missing().iter().map(|missing| missing.character).collect()
}

#[test]
fn a_glyph_that_has_only_colours_is_missing() {
    let colours = font(COLOURS.to_vec());
    assert!(colours.covers('A') && colours.covers(' ') && !colours.covers(ROCKET));
    assert_eq!(missing("A 🚀 A🚀\n", &colours), [ROCKET, ROCKET]);
    // Whatever table would draw it.
    let tag = COLOURS.windows(4).position(|tag| tag == b"COLR").expect("the table");
    for table in [b"CBDT", b"sbix", b"SVG ", b"xxxx"] {
        assert_eq!(missing("A🚀", &font(patched(tag, table))), [ROCKET], "{table:?}");
    }
}

#[test]
fn a_letter_without_outline_is_drawn_in_the_next_font() {
    let plain = Page::typeset("A", &flow(60, 40)).expect("a good style");
    let no_glyph: [(&str, Vec<u8>); 5] = [
        ("an empty glyph", patched(GLYPH_OF_A, &3u32.to_be_bytes())),
        ("the box", patched(GLYPH_OF_A, &0u32.to_be_bytes())),
        ("a glyph that is not there", patched(GLYPH_OF_A, &60_000u32.to_be_bytes())),
        ("a glyph behind the end of its table", patched(LOCA + 6, &[0xff, 0xff, 0xff, 0xff])),
        ("a broken outline", patched(OUTLINE_OF_A, &[0x7f, 0xff])),
    ];
    for (what, bytes) in no_glyph {
        let broken = font(bytes);
        assert!(!broken.covers('A'), "{what}");
        let style = flow(60, 40);
        let style = Style { fonts: vec![Font::sans(), broken.clone()], ..style };
        assert_eq!(Page::typeset("A", &style).expect("a good style"), plain, "{what}");
        assert_eq!(missing("A", &broken), [], "{what}: an embedded font has it");
        let drawn = Page::typeset("A", &flow(60, 40).with_font(broken)).expect("a good style");
        assert!(drawn.pages()[0].page.rgb().as_raw().iter().any(|&sample| sample < 64), "{what}");
    }
}

#[test]
fn each_font_of_a_collection_has_its_own_glyphs() {
    let bytes = collection(&[COLOURS.to_vec(), patched(GLYPH_OF_A, &3u32.to_be_bytes())]);
    let at = |index| Font::from_collection(bytes.clone(), index);
    let (first, second) = (at(0).expect("a font"), at(1).expect("a font"));
    assert!(first.covers('A') && !second.covers('A') && first != second);
    assert!(matches!(at(2), Err(Error::InvalidFont { .. })));
}

#[test]
fn the_embedded_fonts_show_what_they_have() {
    for font in Font::all_embedded() {
        let glyph = |character| font.face().charmap().map_unicode(character).filter(|glyph| glyph.to_u32() != 0);
        let mapped = ('\0'..=char::MAX).filter(|&character| glyph(character).is_some());
        // The object replacement character is blank in them: it stands for a picture, which is missing indeed.
        let lost: Vec<char> = mapped.filter(|&c| c != '\u{fffc}' && !font.covers(c)).collect();
        assert_eq!(lost, [], "{font:?}");
    }
}
