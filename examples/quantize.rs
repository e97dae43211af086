//! Converts a model folder once into one whose decoder has weights of 8 or 4 bits, which loads without work.
//!
//!     cargo run --release --example quantize -- MODEL_FOLDER OUT_FOLDER --weights q4
#![allow(clippy::print_stdout)]

use clap::Parser;
use deepseek_ocr::{DeepseekOcr, Device, Weights};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// A folder as it is on the Hugging Face hub.
    model: PathBuf,
    /// The new folder.
    out: PathBuf,
    /// q8 or q4
    #[arg(long)]
    weights: Weights,
}

fn main() -> anyhow::Result<()> {
    let Options { model, out, weights } = Options::parse();
    let started = Instant::now();
    DeepseekOcr::loader(&model).with_device(&Device::flex()).with_weights(weights).convert(&out)?;
    let seconds = started.elapsed().as_secs_f64();
    println!("{} to {} in {seconds:.0} s", size(&model)?, size(&out)?);
    // A folder that does not load is no conversion.
    DeepseekOcr::from_dir(&out, &Device::flex())?;
    Ok(())
}

/// The size of a folder's weights.
fn size(folder: &Path) -> std::io::Result<String> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            bytes += path.metadata()?.len();
        }
    }
    Ok(format!("{:.3} GB", bytes as f64 / 1e9))
}
