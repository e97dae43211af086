//! Reads pages from several threads with one engine: rows join and leave a running batch, within a budget of cache.
//!
//!     cargo run --release --example engine -- [--rows N] [--threads N] [--pages N] [--cache-mb N] [IMAGE..]
#![allow(clippy::print_stdout, clippy::print_stderr)]

use clap::Parser;
use deepseek_ocr::{DeepseekOcr, Device, Engine, EngineOptions, Mode, Page, Request, Task};
use std::{thread, time::Instant};

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Page images, taken in turns; without them the shipped page.
    images: Vec<String>,
    /// Pages that are decoded together.
    #[arg(long, default_value_t = 8)]
    rows: usize,
    /// Threads that hand pages in.
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Pages of each thread.
    #[arg(long, default_value_t = 4)]
    pages: usize,
    /// Megabytes of keys and values at most.
    #[arg(long, default_value_t = 64)]
    cache_mb: u64,
}

fn main() -> anyhow::Result<()> {
    let mut options = Options::parse();
    if options.images.is_empty() {
        options.images.push(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page.png").into());
    }
    let ocr = DeepseekOcr::mini(&Device::default())?;
    let limits = EngineOptions::default().with_rows(options.rows).with_cache_bytes(options.cache_mb << 20);
    let engine = Engine::new(&ocr, limits)?;

    let started = Instant::now();
    let read = |thread: usize| -> anyhow::Result<usize> {
        let mut tokens = 0;
        for number in 0..options.pages {
            let page = Page::open(&options.images[(thread + number) % options.images.len()])?;
            let request = Request::new(page).with_mode(Mode::Tiny).with_task(Task::FreeOcr).with_max_new_tokens(800);
            // The stream is an iterator of pieces as well; dropping it would free its place.
            let transcript = engine.submit(request)?.finish()?;
            let load = engine.load();
            eprintln!("thread {thread}: {} ({} run, {} wait)", transcript.finish(), load.running, load.waiting);
            tokens += transcript.usage().text_tokens;
        }
        Ok(tokens)
    };
    let tokens = thread::scope(|scope| {
        let threads: Vec<_> = (0..options.threads).map(|thread| scope.spawn(move || read(thread))).collect();
        let joined =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| anyhow::bail!("a thread panicked")));
        joined.sum::<anyhow::Result<usize>>()
    })?;

    let (seconds, steps) = (started.elapsed().as_secs_f64(), engine.load().steps);
    println!("{tokens} tokens in {steps} steps and {seconds:.2} s: {:.1} rows a step", tokens as f64 / steps as f64);
    Ok(())
}
