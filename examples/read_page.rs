//! Reads one page: the text streams to stdout, one line of figures goes to stderr.
//!
//!     cargo run --release --example read_page -- [IMAGE] [--mode tiny] [--task free-ocr] [--device flex] [--model FOLDER_OR_HUB_ID]
//!
//! Without `--model` the embedded mini checkpoint reads; without an image, a page that is shipped with it.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use anyhow::Context;
use clap::Parser;
use deepseek_ocr::{DeepseekOcr, Device, Mode, Page, Request, Task};
use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// The page; by default one that the mini checkpoint can read.
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page.png"))]
    image: PathBuf,
    /// tiny, small, base, large, gundam or gundam-m [default: tiny for the mini, else gundam]
    #[arg(long)]
    mode: Option<Mode>,
    /// markdown, free-ocr, ocr-image, figure, describe, locate:WHAT or custom:PROMPT [default: free-ocr for the mini, else markdown]
    #[arg(long)]
    task: Option<Task>,
    /// flex, wgpu, vulkan, metal, cuda or rocm, as far as compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// A model folder, or a repository on the Hugging Face hub
    #[arg(long)]
    model: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let page = Page::open(&options.image).with_context(|| options.image.display().to_string())?;
    for warning in page.warnings() {
        eprintln!("warning: {warning}");
    }
    let device = deepseek_ocr::device(&options.device)?;
    let (ocr, mode, task) = match &options.model {
        Some(model) => (load(model, &device)?, Mode::default(), Task::default()),
        None => (DeepseekOcr::mini(&device)?, Mode::Tiny, Task::FreeOcr),
    };
    let request = Request::new(page).with_mode(options.mode.unwrap_or(mode)).with_task(options.task.unwrap_or(task));

    let mut stream = ocr.stream(request)?;
    let started = Instant::now();
    let mut stdout = std::io::stdout().lock();
    for piece in &mut stream {
        write!(stdout, "{}", piece?)?;
        stdout.flush()?;
    }
    writeln!(stdout)?;
    let seconds = started.elapsed().as_secs_f64();

    let transcript = stream.finish()?;
    let usage = transcript.usage();
    eprintln!(
        "{} vision tokens, {} text tokens{}, ratio {:.2}, {:.1} tokens/s, finish: {}, confidence {:.4}",
        usage.vision_tokens,
        usage.text_tokens,
        if options.model.is_none() { " (the mini's are characters)" } else { "" },
        usage.compression_ratio(),
        usage.text_tokens as f64 / seconds,
        transcript.finish(),
        transcript.confidence(),
    );
    Ok(())
}

fn load(model: &str, device: &Device) -> deepseek_ocr::Result<DeepseekOcr> {
    if Path::new(model).is_dir() {
        DeepseekOcr::from_dir(model, device)
    } else {
        DeepseekOcr::from_pretrained(model, device)
    }
}
