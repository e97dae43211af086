//! Text as vision tokens and back, by the embedded checkpoint.

use crate::mini::{DROP, RECORDED, precision};
use deepseek_ocr::{
    DeepseekOcr, EncodedPages, Error, Finish, Missing, Mode, OpticalText, Page, Style, TokenFormat, VisionTokens,
};
use serde_json::Value;
use std::{path::Path, process::Command};

const SAMPLES: &str = include_str!("../data/mini/samples.json");

/// Names the file that another process of these tests reads.
const STORED: &str = "DEEPSEEK_OCR_STORED_TEXT";

/// Texts that were held out of the training, in lines as they stand on a page, on pages of their own.
fn held_out(pages: usize) -> (String, Vec<String>) {
    let samples: Vec<Value> = serde_json::from_str(SAMPLES).unwrap();
    let truths = samples.iter().map(|sample| sample["truth"].as_str().unwrap().to_owned());
    let truths: Vec<_> = truths.take(pages).collect();
    (truths.join("\x0c"), truths)
}

fn compress(ocr: &DeepseekOcr, text: &str) -> OpticalText {
    ocr.compress(text, &Style::mini(), Mode::Tiny).unwrap()
}

#[test]
fn held_out_text_survives_the_round_trip() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let (text, truths) = held_out(6);
    let optical = compress(&ocr, &text);
    assert_eq!((optical.pages().len(), optical.vision_tokens(), optical.mode()), (6, 6 * 73, Mode::Tiny));
    // The mini's tokenizer has a token for each character, and none for the form feed.
    assert_eq!(optical.text_tokens(), ocr.tokenizer().encode(&text).unwrap().len());
    assert!(optical.ratio() > 7.0, "characters for a vision token: {}", optical.ratio());
    let read = ocr.decompress(&optical).unwrap();
    let reached: Vec<f64> =
        read.pages().iter().zip(&truths).map(|(page, truth)| precision(page.text().trim_end(), truth)).collect();
    println!("{reached:.4?} at {:.2} characters a vision token", optical.ratio());
    assert!(read.pages().iter().all(|page| page.finish() == Finish::Stop));
    assert!(reached.iter().sum::<f64>() / 6.0 >= RECORDED - DROP, "{reached:.4?}");
    assert!(precision(&read.text(), &truths.join("\n")) >= RECORDED - DROP);
}

#[test]
fn equal_pages_are_encoded_once() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let mut encoded = EncodedPages::new(2);
    let mut compress = |text: &str| ocr.compress_with(text, &Style::mini(), Mode::Tiny, &mut encoded).unwrap();
    let twice = compress("one\x0ctwo\x0cone");
    let digests: Vec<_> = twice.pages().iter().map(|page| page.digest).collect();
    assert_eq!(digests[0], digests[2]);
    assert_ne!(digests[0], digests[1]);
    assert_eq!(compress("two").pages()[0].digest, digests[1]);
    assert_eq!(encoded.len(), 2);
    // The oldest goes first.
    ocr.compress_with("three", &Style::mini(), Mode::Tiny, &mut encoded).unwrap();
    assert!(encoded.get(&digests[0]).is_none() && encoded.get(&digests[1]).is_some());
    // In a file, too, it is once.
    let length = |text: &OpticalText| text.to_bytes(TokenFormat::Bf16).unwrap().len();
    let page = 73 * 384 * 2;
    assert!((2 * page..2 * page + 3000).contains(&length(&twice)));
    assert_ne!(twice.pages()[0].digest, ocr.compress("one", &Style::mini(), Mode::Small).unwrap().pages()[0].digest);
}

/// By a model that is sure of what it reads: rounding changes no letter.
#[test]
fn stored_text_is_read_as_before() {
    let ocr = crate::first::model();
    let truths = crate::first::pages().into_iter().take(2);
    let text: Vec<String> = truths.map(|(_, sample)| sample["truth"].as_str().unwrap().to_owned()).collect();
    let optical = ocr.compress(&text.join("\x0c"), &crate::first::style(), Mode::Tiny).unwrap();
    let before = ocr.decompress(&optical).unwrap().text();
    let folder = tempfile::tempdir().unwrap();
    for (format, most, error) in [(TokenFormat::Bf16, 78_500, 1.0 / 256.0), (TokenFormat::Q8, 43_500, 1.0 / 150.0)] {
        let path = folder.path().join("text.safetensors");
        optical.save(&path, format).unwrap();
        assert!(std::fs::metadata(&path).unwrap().len() < most, "{format:?}");
        let stored = OpticalText::open(&path, &crate::device()).unwrap();
        assert_eq!((stored.mode(), stored.text_tokens()), (optical.mode(), optical.text_tokens()));
        for (stored, page) in stored.pages().iter().zip(optical.pages()) {
            assert_eq!(
                (&stored.range, stored.digest, stored.text_tokens),
                (&page.range, page.digest, page.text_tokens)
            );
            assert_eq!(stored.vision.page_size(), Some((512, 512)));
            assert!(distance(&stored.vision, &page.vision) <= error, "{format:?}");
        }
        assert_eq!(ocr.decompress(&stored).unwrap().text(), before, "{format:?}");
        // Saved over itself, nothing else is left behind.
        stored.save(&path, format).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}

#[test]
fn what_one_process_stored_another_one_reads() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    if let Some(path) = std::env::var_os(STORED) {
        // The other process: it has the file and nothing else.
        let stored = OpticalText::open(&path, &crate::device()).unwrap();
        let read = ocr.decompress(&stored).unwrap().text();
        return std::fs::write(Path::new(&path).with_extension("txt"), read).unwrap();
    }
    let (text, _) = held_out(2);
    let optical = compress(&ocr, &text);
    let folder = tempfile::tempdir().unwrap();
    for format in [TokenFormat::Bf16, TokenFormat::Q8] {
        let path = folder.path().join(format!("{format:?}.safetensors"));
        optical.save(&path, format).unwrap();
        let this = ["optical::what_one_process_stored_another_one_reads", "--exact"];
        let run = Command::new(std::env::current_exe().unwrap()).args(this).env(STORED, &path).output().unwrap();
        assert!(run.status.success(), "{format:?}: {}", String::from_utf8_lossy(&run.stdout));
        let read = std::fs::read_to_string(path.with_extension("txt")).expect("the other process ran the test");
        let here = ocr.decompress(&OpticalText::open(&path, &crate::device()).unwrap()).unwrap().text();
        assert!(read.len() > 800 && read == here, "{format:?}: {read}\n{here}");
    }
}

#[test]
fn what_was_missing_is_stored() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let optical = compress(&ocr, "one \u{4e2d}");
    let stored = OpticalText::from_bytes(&optical.to_bytes(TokenFormat::Q8).unwrap(), &crate::device()).unwrap();
    assert_eq!(stored.missing(), [Missing::new('\u{4e2d}', 4)]);
    assert_eq!(stored.missing(), optical.missing());
}

/// The largest difference over the largest number.
fn distance(found: &VisionTokens, expected: &VisionTokens) -> f32 {
    let numbers = |tokens: &VisionTokens| tokens.to_data().unwrap().as_slice::<f32>().unwrap().to_vec();
    let (found, expected) = (numbers(found), numbers(expected));
    let largest = expected.iter().fold(0.0f32, |largest, number| largest.max(number.abs()));
    found.iter().zip(&expected).fold(0.0f32, |most, (a, b)| most.max((a - b).abs())) / largest
}

#[test]
fn damaged_files_are_errors() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let device = crate::device();
    let bytes = compress(&ocr, "text").to_bytes(TokenFormat::Q8).unwrap();
    assert!(OpticalText::from_bytes(&bytes, &device).is_ok());
    for length in (0..bytes.len()).step_by(101) {
        let cut = OpticalText::from_bytes(&bytes[..length], &device);
        assert!(matches!(cut, Err(Error::Safetensors { .. })), "{length}");
    }
    let with = |from: &str, to: &str| {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
        let mut changed = bytes.clone();
        changed[at..at + from.len()].copy_from_slice(to.as_bytes());
        OpticalText::from_bytes(&changed, &device).unwrap_err().to_string()
    };
    for (from, to, named) in [
        ("tiny", "tony", "mode is none that is known"),
        (r#"\"version\":1"#, r#"\"version\":7"#, "version 7 is not read"),
        (r#"\"start\":0"#, r#"\"start\":3"#, "begins at byte 3"),
        (r#"\"digest\""#, r#"\"dygest\""#, "a page has no digest"),
    ] {
        assert!(with(from, to).contains(named), "{}", with(from, to));
    }
    assert!(OpticalText::open("no such file", &device).is_err());
}

#[test]
fn a_ratio_of_the_model_s_own_tokens_is_reached() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let text = "It was the best of times, it was the worst of times. ".repeat(40);
    let fitted = ocr.typeset_to_fit(&text, &Style::mini(), Mode::Tiny, 7.0).unwrap();
    assert!(fitted.ratio >= 7.0 && fitted.vision_tokens == 73 * fitted.typeset.pages().len());
    let optical = ocr.compress(&text, &fitted.style, Mode::Tiny).unwrap();
    assert_eq!(optical.ratio(), fitted.ratio);
}

#[test]
fn what_cannot_be_compressed_is_an_error_or_nothing() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let nothing = compress(&ocr, "");
    assert_eq!((nothing.pages().len(), nothing.ratio()), (0, 0.0));
    assert_eq!(ocr.decompress(&nothing).unwrap().text(), "");
    let stored = OpticalText::from_bytes(&nothing.to_bytes(TokenFormat::Bf16).unwrap(), &crate::device()).unwrap();
    assert_eq!(stored.pages().len(), 0);
    let style = Style::mini().with_size(0.0);
    assert!(matches!(ocr.compress("text", &style, Mode::Tiny), Err(Error::InvalidStyle { field: "size", .. })));
    assert!(Page::typeset("text", &style).is_err());
}
