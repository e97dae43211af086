//! Trains a checkpoint that reads typeset pages, exports it and measures it.
//!
//!     cargo run --release -p train -- train RUN --recipe RECIPE.json
//!     cargo run --release -p train -- export RUN MODEL
//!     cargo run --release -p train -- evaluate MODEL --corpus TEXTS --density 3x7
//!
//! With `--features cuda` (or `wgpu`, ..) and `--device cuda` on a GPU.
//! A run goes on where it was left. See the README.
#![allow(clippy::print_stdout)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
mod corpus;
mod curriculum;
mod curve;
mod draw;
mod evaluate;
mod export;
#[cfg(test)]
mod gradients;
mod grow;
mod guide;
mod heads;
mod layout;
mod log;
mod lora;
mod network;
mod optimizer;
mod pages;
mod parameters;
mod random;
mod recipe;
mod run;
mod state;

use anyhow::Result;
use clap::{Parser, Subcommand};
use deepseek_ocr::{Device, Font, Weights};
use evaluate::Evaluation;
use export::Formats;
use grow::Growth;
use recipe::Arrangement;
use run::Pace;
use std::path::PathBuf;

/// Pixels beside and above text that flows where it is measured.
const FLOW_MARGINS: [u32; 2] = [16, 8];

/// Tensors of some ten megabytes come and go at each operation; the system's allocator would give each back at once.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Where to compute: flex (the CPU), wgpu, vulkan, metal, cuda or rocm, if the feature of that name is built in
    #[arg(long, global = true, default_value = "flex", value_parser = deepseek_ocr::device)]
    device: Device,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Begins a run, or goes on with one
    Train {
        /// The run's folder
        run: PathBuf,
        /// What to do; without it, what the run's folder says
        #[arg(long)]
        recipe: Option<PathBuf>,
        /// Steps between lines of the log
        #[arg(long, default_value_t = 25)]
        log: usize,
        /// Steps between states on the disk
        #[arg(long, default_value_t = 250)]
        save: usize,
        /// The step to leave off after
        #[arg(long)]
        stop: Option<usize>,
    },
    /// Writes a run's newest state as a model folder
    Export {
        run: PathBuf,
        model: PathBuf,
        /// What matrices are kept as: stored (bf16), q8 or q4
        #[arg(long, default_value_t = Weights::Stored)]
        weights: Weights,
        /// Beginnings of names, or patterns with `*`, of matrices that are kept in 4 bits whatever the others are
        #[arg(long)]
        narrow: Vec<String>,
    },
    /// Writes a model with copies of one of its decoder's blocks behind it, which change nothing until they are trained
    Grow {
        model: PathBuf,
        grown: PathBuf,
        /// The block that is copied, counted from 0
        #[arg(long)]
        block: usize,
        #[arg(long, default_value_t = 1)]
        copies: usize,
    },
    /// Draws a run's table
    Curve { run: PathBuf, picture: PathBuf },
    /// Reads held-out pages with a model
    Evaluate {
        model: PathBuf,
        /// A folder of text files
        #[arg(long)]
        corpus: PathBuf,
        /// Lines and characters to a vision token, as 3x7
        #[arg(long, value_parser = density, required_unless_present = "flow")]
        density: Option<[u32; 2]>,
        /// Text that flows, in place of a density: a font (sans-mono, sans or serif) and the em in pixels, as serif:18
        #[arg(long, value_parser = flow, conflicts_with_all = ["density", "blocks"])]
        flow: Option<(Font, f32)>,
        /// Whether each vision token is filled before the next
        #[arg(long)]
        blocks: bool,
        /// Text tokens a token of the grid; without it, pages are filled
        #[arg(long)]
        ratio: Option<f64>,
        /// Pages of each kind
        #[arg(long, default_value_t = 10)]
        pages: usize,
        #[arg(long, default_value_t = 2026)]
        seed: u64,
        /// A tokenizer.json that counts text tokens
        #[arg(long)]
        tokenizer: Option<PathBuf>,
        /// A folder for the pages, as PNG, and what was read from each
        #[arg(long)]
        samples: Option<PathBuf>,
        /// Where to write the figures as JSON
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

fn main() -> Result<()> {
    let Options { device, command } = Options::parse();
    match command {
        Command::Train { run, recipe, log, save, stop } => {
            run::train(&run, recipe.as_deref(), Pace { log, save, stop }, &device)?;
        }
        Command::Export { run, model, weights, narrow } => {
            println!("step {}", export::export(&run, &model, &Formats { all: weights, narrow })?);
        }
        Command::Grow { model, grown, block, copies } => grow::grow(&model, &grown, Growth { block, copies })?,
        Command::Curve { run, picture } => curve::draw(&run, &picture)?,
        Command::Evaluate { model, corpus, density, flow, blocks, ratio, pages, seed, tokenizer, samples, json } => {
            let arrangement = if blocks { Arrangement::Blocks } else { Arrangement::Lines };
            let style = match (flow, density) {
                (Some((font, size)), _) => layout::flowing(font, size, FLOW_MARGINS, pages::COLUMNS),
                (None, density) => pages::style(density.unwrap_or_default(), arrangement, pages::COLUMNS),
            };
            let (model, device, corpus, tokenizer) = (&model, &device, &corpus, tokenizer.as_deref());
            let evaluation =
                Evaluation { model, device, corpus, tokenizer, style: &style, arrangement, ratio, pages, seed };
            let readings = evaluate::evaluate(&evaluation)?;
            for reading in &readings {
                println!(
                    "{:16} {:.2} % of characters, {} of {} exact, {} stopped, {:.0} characters and {:.0} text tokens a page, \
                     {:.2} text tokens a token of the grid, {:.2} of all",
                    reading.kind,
                    100.0 * reading.precision,
                    reading.exact,
                    reading.pages,
                    reading.stopped,
                    reading.characters,
                    reading.text_tokens,
                    reading.compression[0],
                    reading.compression[1],
                );
            }
            if let Some([truth, answer]) = readings.first().and_then(|reading| reading.example.as_ref()) {
                println!("\n{truth}\n\n{answer}");
            }
            if let Some(folder) = samples {
                evaluate::write_samples(&readings, &folder)?;
            }
            if let Some(path) = json {
                std::fs::write(path, serde_json::to_vec_pretty(&readings)?)?;
            }
        }
    }
    Ok(())
}

fn flow(text: &str) -> Result<(Font, f32), String> {
    let (name, size) = text.split_once(':').ok_or("it should be FONT:SIZE")?;
    let (_, font) = layout::FONTS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("{name:?}: the fonts are {}", layout::FONTS.map(|(known, _)| known).join(", ")))?;
    Ok((font(), size.parse().map_err(|_| format!("{size:?} is no number"))?))
}

fn density(text: &str) -> Result<[u32; 2], String> {
    let (lines, characters) = text.split_once('x').ok_or("it should be LINESxCHARACTERS")?;
    let number = |part: &str| part.parse().map_err(|_| format!("{part:?} is no number"));
    Ok([number(lines)?, number(characters)?])
}
