//! The same program on every device that is compiled in and present; each must read the same text.
//!
//!     cargo run --release --example choose_device
//!     cargo run --release --example choose_device --features wgpu
#![allow(clippy::print_stdout)]

use deepseek_ocr::{DEVICES, DeepseekOcr, Mode, Page, Request, Task};
use std::time::Instant;

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let page = Page::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page.png"))?;
    let request = Request::new(page).with_mode(Mode::Tiny).with_task(Task::FreeOcr);
    for name in DEVICES {
        let device = match deepseek_ocr::device(name) {
            Ok(device) => device,
            Err(error) => {
                println!("{name:8} {error}");
                continue;
            }
        };
        let ocr = DeepseekOcr::mini(&device)?;
        let started = Instant::now();
        let transcript = ocr.generate(request.clone())?;
        let first_line = transcript.text().lines().next().unwrap_or_default();
        println!("{name:8} {:6.2} s  {first_line}", started.elapsed().as_secs_f64());
    }
    Ok(())
}
