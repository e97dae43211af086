//! The embedded checkpoint reads what the library typesets as well as the pages that its training program drew.

use crate::mini::{DROP, RECORDED, precision, request};
use deepseek_ocr::{DeepseekOcr, Mode, Page, Style, Typeset};
use serde_json::Value;

const SAMPLES: &str = include_str!("../data/mini/samples.json");

/// What was read of words of letters of both cases and digits, which its training had hardly any of; the README states it.
const STRINGS: f64 = 0.658;

/// Texts that were held out of the training.
fn truths() -> Vec<String> {
    let samples: Vec<Value> = serde_json::from_str(SAMPLES).unwrap();
    samples.iter().map(|sample| sample["truth"].as_str().unwrap().to_owned()).collect()
}

/// The precision with which each page is read, against its lines.
fn read(ocr: &DeepseekOcr, text: &str, typeset: &Typeset) -> Vec<f64> {
    let page = |page: &deepseek_ocr::TypesetPage| {
        let lines: Vec<_> = page.lines.iter().map(|line| &text[line.clone()]).collect();
        let transcript = ocr.generate(request(&page.page)).unwrap();
        precision(transcript.text().trim_end(), lines.concat().trim_end())
    };
    typeset.pages().iter().map(page).collect()
}

#[test]
fn the_mini_reads_held_out_text_that_the_library_set() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let mut reached = Vec::new();
    for truth in truths() {
        let typeset = Page::typeset(&truth, &Style::mini()).unwrap();
        assert_eq!((typeset.pages().len(), typeset.missing().len()), (1, 0));
        reached.extend(read(&ocr, &truth, &typeset));
    }
    println!("{reached:.4?}");
    let mean = reached.iter().sum::<f64>() / reached.len() as f64;
    assert!(mean >= RECORDED - DROP, "{mean:.4}: {reached:.4?}");
}

/// Texts without their line ends, one behind the other, broken into pages by the library.
#[test]
fn the_mini_reads_text_that_flows_over_pages() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let prose: Vec<String> = truths().iter().map(|truth| truth.replace('\n', " ")).collect();
    let text = prose.join("\n");
    let typeset = Page::typeset(&text, &Style::mini()).unwrap();
    // A block after the other, without a gap.
    assert_eq!(typeset.pages().len(), text.len().div_ceil(64 * 50));
    let reached = read(&ocr, &text, &typeset);
    println!("{reached:.4?}");
    let mean = reached.iter().sum::<f64>() / reached.len() as f64;
    assert!(mean >= RECORDED - DROP, "{mean:.4}: {reached:.4?}");
}

/// Letters and digits that no language helps to guess, from a fixed seed.
#[test]
fn the_mini_reads_random_strings_that_the_library_set() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below) as usize
    };
    let alphabet = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut word = || (0..2 + random(8)).map(|_| char::from(alphabet[random(62)])).collect::<String>();
    let text = (0..800).map(|_| word()).collect::<Vec<_>>().join(" ");
    let typeset = Page::typeset(&text, &Style::mini()).unwrap();
    assert_eq!(typeset.pages().len(), 2);
    let reached = read(&ocr, &text, &typeset);
    println!("{reached:.4?}");
    let mean = reached.iter().sum::<f64>() / reached.len() as f64;
    assert!(mean >= STRINGS - DROP, "{mean:.4}: {reached:.4?}");
}

#[test]
fn a_typeset_page_is_its_own_view() {
    let page = Page::typeset("text", &Style::default().with_mode(Mode::Base)).unwrap().into_pages().remove(0);
    let views = deepseek_ocr::preprocess::views(&page, Mode::Base);
    assert_eq!(views.page().pixels(), page.rgb().as_raw());
}
