//! How much text a density puts on a page.
#![allow(clippy::unwrap_used)]

use compression_study::{
    pages::{Density, Plan, patches},
    text::Kind,
};
use deepseek_ocr::{Mode, Tokenizer};
use std::path::Path;

#[test]
fn densities_are_read_as_they_are_written() {
    for (text, density) in
        [("2x5", Density::Cells(2, 5)), ("7.5", Density::Ratio(7.5)), ("blocks:0.5", Density::Blocks(0.5))]
    {
        assert_eq!((text.parse(), density.to_string()), (Ok(density), text.to_owned()));
    }
    for text in ["", "x", "0x5", "2x33", "2x5x1", "0", "101", "NaN", "blocks:", "blocks:2x5", "blocks:0", "block:3"] {
        let error = text.parse::<Density>().unwrap_err();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn blocks_hold_the_text_tokens_that_were_asked_for_or_are_full() {
    let tokenizer = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/mini/tokenizer.json");
    let tokenizer = Tokenizer::open(tokenizer).unwrap();
    let plan = Plan { modes: vec![], densities: vec![], kinds: vec![], pages: 1, pooled: 0, fonts: vec![] };
    let sheet = |ratio| plan.sheet((Mode::Tiny, Density::Blocks(ratio), Kind::Prose), 3, &tokenizer).unwrap();
    assert_eq!(patches(Mode::Tiny), 64);
    // The mini's tokens are characters; a page of 64 blocks has room for 50 a block.
    for (ratio, characters) in [(0.5, 32), (6.0, 384), (30.0, 1920), (50.0, 3200), (80.0, 3200)] {
        let found = sheet(ratio).truth;
        // A space at the end is cut off.
        assert!((characters - 1..=characters).contains(&found.chars().count()), "{ratio}: {}", found.chars().count());
        assert!(sheet(80.0).truth.starts_with(&found));
    }
    assert_eq!(sheet(6.0).page.rgb().dimensions(), (512, 512));
}
