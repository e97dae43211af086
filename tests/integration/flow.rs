//! The checkpoint of `assets/mini-flow` reads held-out text that flows, in three fonts, as well as its README says.

use crate::mini::{DROP, precision, request};
use deepseek_ocr::{DeepseekOcr, Font, Margins, Mode, Page, Style};
use serde_json::Value;
use std::path::Path;

/// Pages that were held out of its training: font, em in pixels, the lines on each and how well they were read.
const SAMPLES: &str = include_str!("../data/flow.json");

/// What the checkpoint's README says of these pages, on average.
const RECORDED: f64 = 0.961;

/// Pages as `train evaluate --flow` sets them.
fn style(font: Font, size: f32) -> Style {
    let margins = Margins { top: 8, right: 16, bottom: 0, left: 16 };
    Style::default().with_mode(Mode::Tiny).with_margins(margins).with_font(font).with_size(size)
}

#[test]
fn the_flowing_tests_expect_what_the_readme_states() {
    let readme = include_str!("../../assets/mini-flow/README.md");
    let stated = format!("are read at {:.1} % on average", 100.0 * RECORDED);
    assert!(readme.contains(&stated), "it should state {stated}");
}

#[test]
fn held_out_text_that_flows_is_read_in_three_fonts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/mini-flow");
    let ocr = DeepseekOcr::from_dir(folder, &crate::device()).unwrap();
    let samples: Vec<Value> = serde_json::from_str(SAMPLES).unwrap();
    let mut reached = Vec::new();
    for sample in &samples {
        let text = |field: &str| sample[field].as_str().unwrap();
        let font = match text("font") {
            "sans-mono" => Font::sans_mono(),
            "sans" => Font::sans(),
            "serif" => Font::serif(),
            other => panic!("{other}: no such font"),
        };
        let typeset = Page::typeset(text("truth"), &style(font, sample["size"].as_f64().unwrap() as f32)).unwrap();
        assert_eq!((typeset.pages().len(), typeset.missing().len()), (1, 0));
        let transcript = ocr.generate(request(&typeset.pages()[0].page)).unwrap();
        assert_eq!(transcript.usage().vision_tokens, 73);
        reached.push(precision(transcript.text().trim_end(), text("truth").trim_end()));
    }
    println!("{reached:.4?}");
    assert_eq!(reached.len(), 6);
    let mean = reached.iter().sum::<f64>() / reached.len() as f64;
    assert!(mean >= RECORDED - DROP, "{mean:.4}: {reached:.4?}");
    // In each font the record of its pages holds, too.
    for (index, sample) in samples.iter().enumerate() {
        let recorded = sample["precision"].as_f64().unwrap();
        assert!(reached[index] >= recorded - 0.05, "{}: {:.4} for {recorded:.4}", sample["font"], reached[index]);
    }
}
