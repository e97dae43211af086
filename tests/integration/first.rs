//! A checkpoint in bf16 that reads lines of 40 characters, for tests of what is done with such files: the first mini.

use deepseek_ocr::{DeepseekOcr, Font, Margins, Mode, Page, Style};
use serde_json::Value;
use std::path::{Path, PathBuf};

const SAMPLES: &str = include_str!("../data/first/pages/samples.json");

/// The model folder.
pub fn folder() -> PathBuf {
    data().join("checkpoint")
}

pub fn model() -> DeepseekOcr {
    DeepseekOcr::from_dir(folder(), &crate::device()).unwrap()
}

/// Pages that were held out of its training, and what stands on them.
pub fn pages() -> Vec<(Page, Value)> {
    crate::mini::pages_in(&data().join("pages"), SAMPLES)
}

/// The style that it was trained to read.
pub fn style() -> Style {
    let page = Style::default().with_mode(Mode::Tiny).with_margins(Margins::default());
    page.with_font(Font::sans_mono()).with_aligned(2, 5)
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/first")
}
