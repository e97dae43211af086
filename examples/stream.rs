//! Writes a page's text as it is read, and stops in the middle.
//!
//!     cargo run --release --example stream -- [IMAGE]
#![allow(clippy::print_stdout)]

use deepseek_ocr::{DeepseekOcr, Device, Mode, Page, Request, Task};
use std::io::Write;

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Characters after which the reader has seen enough.
const ENOUGH: usize = 200;

fn main() -> anyhow::Result<()> {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page.png");
    let image = std::env::args().nth(1).unwrap_or_else(|| shipped.into());
    let ocr = DeepseekOcr::mini(&Device::default())?;

    let request = Request::new(Page::open(image)?).with_mode(Mode::Tiny).with_task(Task::FreeOcr);
    let mut stream = ocr.stream(request)?;
    let mut written = 0;
    while let Some(piece) = stream.next() {
        let piece = piece?;
        print!("{piece}");
        std::io::stdout().flush()?;
        written += piece.chars().count();
        if written >= ENOUGH {
            // Dropping the stream would stop the work as well; a cancelled one still gives its transcript.
            stream.cancel();
        }
    }
    let transcript = stream.finish()?;
    println!("\n[{}, after {} tokens]", transcript.finish(), transcript.usage().text_tokens);
    Ok(())
}
