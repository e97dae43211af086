//! Every stage against the goldens of an independent implementation.
//!
//! `DEEPSEEK_OCR_GOLDENS` names a folder with `checkpoint/`, `images/` and `goldens/`; without it, the folder that is shipped.

mod decoder;
mod encoder;
mod golden;

use deepseek_ocr::{
    DeepseekOcr, Mode, Page, Task, Views, VisionTokens,
    preprocess::{Alpha, views_with},
};
use golden::{Golden, Report};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

#[test]
fn parity() {
    let folder = std::env::var_os("DEEPSEEK_OCR_GOLDENS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity"));
    let goldens = open_all(&folder.join("goldens"));
    let device = crate::device();
    let ocr = DeepseekOcr::from_dir(folder.join("checkpoint"), &device).unwrap();
    let mut report = Report::default();
    for golden in &goldens {
        let page = page(&folder, golden);
        let views = pixels(&page, golden, &mut report);
        encoder::check(ocr.encoder(), &views, &device, golden, &mut report);
        let vision = ocr.encoder().encode(&views);
        text(&ocr, vision, golden, &mut report);
    }
    report.finish(&goldens);
}

fn open_all(folder: &Path) -> Vec<Golden> {
    let files = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    files.sort();
    files.iter().map(|path| Golden::open(path)).collect()
}

/// The goldens drop alpha, as the released code does.
fn page(folder: &Path, golden: &Golden) -> Page {
    Page::reader().with_alpha(Alpha::Drop).open(folder.join("images").join(&golden.meta["image"])).unwrap()
}

fn pixels(page: &Page, golden: &Golden, report: &mut Report) -> Views {
    let mode: Mode = golden.meta["mode"].parse().unwrap();
    let max_tiles = golden.meta["max_tiles"].parse().unwrap();
    let views = views_with(page, mode, max_tiles);
    let grid = views.grid();
    for (key, actual) in [("grid_wh", [grid.columns, grid.rows]), ("image_wh", [page.width(), page.height()])] {
        if let Some(expected) = golden.i64s(key) {
            report.equal(golden, key, &actual.map(i64::from), expected);
        }
    }
    let tiles = views.tiles().iter().flat_map(|tile| tile.pixels()).copied().collect::<Vec<_>>();
    for (view, actual) in [("global", views.page().pixels()), ("local", &tiles)] {
        if let Some(expected) = golden.u8s(&format!("pix.{view}.u8")) {
            report.equal(golden, &format!("pix.{view}.u8"), actual, expected);
        }
        if let Some(expected) = golden.u8s(&format!("pix.{view}.sha256")) {
            report.equal(golden, &format!("pix.{view}.sha256"), &Sha256::digest(actual), expected);
        }
    }
    views
}

fn text(ocr: &DeepseekOcr, vision: VisionTokens, golden: &Golden, report: &mut Report) {
    assert_eq!(vision.len().to_string(), golden.meta["n_image_tokens"]);
    let tokenizer = ocr.tokenizer();
    let prompt = tokenizer.prompt(&Task::Custom(golden.meta["prompt"].clone()), vec![vision]).unwrap();
    let ids = prompt.ids();
    if let Some(expected) = golden.i64s("input_ids") {
        report.equal(golden, "input_ids", &ids.iter().map(|id| i64::from(*id)).collect::<Vec<_>>(), expected);
    }
    if let Some(expected) = golden.u8s("image_mask") {
        let mask: Vec<_> = ids.iter().map(|id| u8::from(*id == tokenizer.image())).collect();
        report.equal(golden, "image_mask", &mask, expected);
    }
    let cell = |token| tokenizer.id(token).unwrap_or(u32::MAX);
    let special =
        decoder::Special { eos: tokenizer.eos(), image: tokenizer.image(), td: [cell("<td>"), cell("</td>")] };
    decoder::check(ocr.decoder(), &prompt.segments, golden, &special, report);
}
