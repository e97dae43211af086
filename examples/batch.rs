//! Reads several pages together; a page that fails does not stop the others.
//!
//!     cargo run --release --example batch -- [IMAGE ..]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use anyhow::Context;
use deepseek_ocr::{DeepseekOcr, Device, Mode, Page, Request, Task};
use std::time::Instant;

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let mut images: Vec<String> = std::env::args().skip(1).collect();
    if images.is_empty() {
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page.png");
        images = vec![shipped.into(); 4];
    }
    let ocr = DeepseekOcr::mini(&Device::default())?;

    let request = |image: &String| {
        let page = Page::open(image).with_context(|| image.clone())?;
        Ok(Request::new(page).with_mode(Mode::Tiny).with_task(Task::FreeOcr))
    };
    let requests = images.iter().map(request).collect::<anyhow::Result<Vec<_>>>()?;
    let started = Instant::now();
    let results = ocr.generate_batch(requests);
    let seconds = started.elapsed().as_secs_f64();

    for (image, result) in images.iter().zip(&results) {
        match result {
            Ok(transcript) => println!("== {image} ({})\n{transcript}", transcript.finish()),
            Err(error) => println!("== {image}\nfailed: {error}"),
        }
    }
    eprintln!("{} pages in {seconds:.2} s", results.len());
    Ok(())
}
