//! Prints what a page holds and where, one JSON object a line.
//!
//!     cargo run --release --example regions -- IMAGE MODEL_FOLDER
//!     cargo run --release --example regions          (no model: the transcript of a page, as the model writes it, is parsed)
#![allow(clippy::print_stdout)]

use deepseek_ocr::{DeepseekOcr, Device, Page, Region, Transcript};
use serde_json::json;

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the model writes for a page of 1654 x 2339 pixels.
const WRITTEN: &str = "<|ref|>title<|/ref|><|det|>[[83, 36, 914, 97]]<|/det|>\n# Invoice 4711\n\n\
    <|ref|>table<|/ref|><|det|>[[83, 140, 914, 480]]<|/det|>\n<table><tr><td>Apples</td><td>2.50</td></tr></table>\n";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let regions = match arguments.as_slice() {
        [image, model] => {
            let ocr = DeepseekOcr::from_dir(model, &Device::default())?;
            ocr.generate(Page::open(image)?)?.regions()
        }
        [] => Transcript::parse(WRITTEN, (1654, 2339)).regions(),
        _ => anyhow::bail!("expected IMAGE MODEL_FOLDER, or nothing"),
    };
    for Region { label, boxes, text, .. } in regions {
        let boxes: Vec<_> = boxes.iter().map(|b| [b.x1, b.y1, b.x2, b.y2]).collect();
        println!("{}", json!({ "label": label, "boxes": boxes, "text": text }));
    }
    Ok(())
}
