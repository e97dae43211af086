//! Measures how much text survives optical compression, against two baselines, and writes CSV files and plots.
//!
//!     cargo run --release -p compression_study
//!     cargo run --release -p compression_study -- --model /models/DeepSeek-OCR --modes tiny,small,base --densities 5,10,15,20
//!
//! Without `--model` the embedded mini checkpoint reads; the README beside this file says what it reads and what was seen.
#![allow(clippy::print_stdout)]

use anyhow::Context;
use clap::Parser;
use compression_study::{
    decay, needle,
    pages::{self, Cell, Density},
    plot::{Axis, Mark, Plot},
    reader::Reader,
    text::Kind,
};
use deepseek_ocr::{Font, Mode, Style};
use std::{
    path::{Path, PathBuf},
    time::Instant,
};

/// Without it the system takes back the large buffers of each operation, and clears them anew for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What the paper says of the released model (abstract and section 4.1): text tokens to a vision token, precision in percent.
const PAPER: [(f64, f64); 2] = [(10.0, 97.0), (20.0, 60.0)];

#[derive(Parser)]
struct Options {
    /// A model folder; by default the embedded mini checkpoint
    #[arg(long)]
    model: Option<PathBuf>,
    /// flex, wgpu, vulkan, metal, cuda or rocm, as far as compiled in
    #[arg(long, default_value = "flex")]
    device: String,
    /// Where the files go
    #[arg(long, default_value = "target/compression_study")]
    out: PathBuf,
    /// tiny, small, base, large [default: tiny for the mini, else tiny,small]
    #[arg(long, value_delimiter = ',')]
    modes: Vec<Mode>,
    /// Cells as 2x5 (lines and characters to a vision token), text tokens to a vision token as 10, or these in blocks as blocks:10
    /// [default: blocks for the mini, else ratios]
    #[arg(long, value_delimiter = ',')]
    densities: Vec<Density>,
    /// Kinds of text [default: all but cjk]
    #[arg(long, value_delimiter = ',', value_enum)]
    kinds: Vec<Kind>,
    /// Pages of each mode, density and kind
    #[arg(long, default_value_t = 6)]
    pages: usize,
    /// How many of them the pooled baseline reads
    #[arg(long, default_value_t = 2)]
    pooled: usize,
    /// Texts of each length and depth of the needle
    #[arg(long, default_value_t = 5)]
    needles: usize,
    /// The density of pages with a needle
    #[arg(long, default_value = "blocks:10")]
    needle_density: Density,
    /// Conversations whose rounds fade
    #[arg(long, default_value_t = 3)]
    conversations: usize,
    /// A font file for what the embedded fonts lack; may be repeated
    #[arg(long)]
    font: Vec<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    std::fs::create_dir_all(&options.out).with_context(|| options.out.display().to_string())?;
    let reader = Reader::open(options.model.as_deref(), &deepseek_ocr::device(&options.device)?)?;
    let started = Instant::now();
    compress(&options, &reader)?;
    println!("({:.0} s)\n", started.elapsed().as_secs_f64());
    hide(&options, &reader)?;
    println!("({:.0} s)\n", started.elapsed().as_secs_f64());
    fade(&options, &reader)?;
    println!("{} in {:.0} s", options.out.display(), started.elapsed().as_secs_f64());
    Ok(())
}

/// Pages of all modes, densities and kinds.
fn compress(options: &Options, reader: &Reader) -> anyhow::Result<()> {
    let ratios = || [2.0, 5.0, 7.5, 10.0, 12.5, 15.0, 20.0].map(Density::Ratio).to_vec();
    let blocks = || [2.0, 4.0, 6.0, 8.0, 10.0, 12.0].map(Density::Blocks).to_vec();
    let is_mini = options.model.is_none();
    let plan = pages::Plan {
        modes: or(&options.modes, || if is_mini { vec![Mode::Tiny] } else { vec![Mode::Tiny, Mode::Small] }),
        densities: or(&options.densities, || if is_mini { blocks() } else { ratios() }),
        kinds: or(&options.kinds, || vec![Kind::Prose, Kind::Code, Kind::Words, Kind::Letters, Kind::Digits]),
        pages: options.pages,
        pooled: options.pooled,
        fonts: fonts(&options.font)?,
    };
    println!("mode   density  kind     ratio  characters  words  tokens | truncated | pooled  unpooled (characters)");
    let (cells, table) = plan.measure(reader, |cell| {
        let percent = |share: f64| format!("{:.1}", 100.0 * share);
        println!(
            "{:6} {:8} {:8} {:5.2} {:>11} {:>6} {:>7} | {:>9} | {:>6}  {:>8}",
            cell.mode.to_string(),
            cell.density.to_string(),
            cell.kind.name(),
            cell.ratio,
            percent(cell.optical.characters),
            percent(cell.optical.words),
            percent(cell.optical.tokens),
            percent(cell.truncated.characters),
            percent(cell.pooled.characters),
            percent(cell.unpooled.characters),
        );
    })?;
    table.save(&options.out.join("pages.csv"))?;
    pages::summary(&cells).save(&options.out.join("curve.csv"))?;
    for &mode in &plan.modes {
        let cells: Vec<&Cell> = cells.iter().filter(|cell| cell.mode == mode).collect();
        curve(&cells, &plan.kinds, mode)?.save(&options.out.join(format!("curve-{mode}.png")))?;
        readings(&cells, mode)?.save(&options.out.join(format!("readings-{mode}.png")))?;
    }
    Ok(())
}

/// Precision over compression for each kind, beside the baselines and the paper's figures.
fn curve(cells: &[&Cell], kinds: &[Kind], mode: Mode) -> anyhow::Result<Plot> {
    let title = format!("Precision by compression, mode {mode}");
    let mut plot = Plot::new(title, ratio_axis(cells, mode), percent_axis("characters read, %"));
    let points = |kind: Kind, share: fn(&Cell) -> f64| {
        sorted(cells.iter().filter(|cell| cell.kind == kind).map(|cell| (cell.ratio, 100.0 * share(cell))))
    };
    for &kind in kinds {
        plot = plot.with_series(kind.name(), Mark::Dotted, points(kind, |cell| cell.optical.characters));
    }
    let first = *kinds.first().context("there is no kind")?;
    plot = plot.with_series("text, cut off", Mark::Dashed, points(first, |cell| cell.truncated.characters));
    plot = plot.with_series("text, pooled", Mark::Dashed, points(first, |cell| cell.pooled.characters));
    Ok(plot.with_series("paper, released model", Mark::Dashed, PAPER))
}

/// The three readings of the first kind.
fn readings(cells: &[&Cell], mode: Mode) -> anyhow::Result<Plot> {
    let kind = cells.first().context("there is no page")?.kind;
    let title = format!("Three readings of precision, {}, mode {mode}", kind.name());
    let mut plot = Plot::new(title, ratio_axis(cells, mode), percent_axis("read, %"));
    let line = |share: fn(&Cell) -> f64| {
        let same = cells.iter().filter(|cell| cell.kind == kind);
        sorted(same.map(|cell| (cell.ratio, 100.0 * share(cell))))
    };
    plot = plot.with_series("characters", Mark::Dotted, line(|cell| cell.optical.characters));
    plot = plot.with_series("words", Mark::Dotted, line(|cell| cell.optical.words));
    plot = plot.with_series("text tokens", Mark::Dotted, line(|cell| cell.optical.tokens));
    Ok(plot)
}

/// Numbers in longer texts.
fn hide(options: &Options, reader: &Reader) -> anyhow::Result<()> {
    let plan = needle::Plan {
        mode: options.modes.first().copied().unwrap_or(Mode::Tiny),
        density: options.needle_density,
        lengths: vec![150, 300, 600, 1200, 2400],
        depths: vec![0.0, 0.25, 0.5, 0.75, 1.0],
        texts: options.needles,
    };
    println!("characters  depth  found");
    let (all, table) = plan.measure(reader, |found| {
        println!("{:10} {:6.2} {:5.0} %", found.length, found.depth, 100.0 * found.recall);
    })?;
    table.save(&options.out.join("needle.csv"))?;
    let title = format!("Numbers found, mode {}, {}", plan.mode, plan.density);
    let x = Axis::new("where it stands: 0 at the start, 1 at the end").with_range(0.0, 1.0);
    let mut plot = Plot::new(title, x, percent_axis("numbers found digit for digit, %"));
    for &length in &plan.lengths {
        let same = all.iter().filter(|found| found.length == length);
        let points: Vec<_> = same.map(|found| (found.depth, 100.0 * found.recall)).collect();
        plot = plot.with_series(format!("{length} characters"), Mark::Dotted, points);
    }
    plot.save(&options.out.join("needle.png"))
}

/// Rounds that fade.
fn fade(options: &Options, reader: &Reader) -> anyhow::Result<()> {
    let steps = vec![(0, Mode::Base), (2, Mode::Small), (5, Mode::Tiny)];
    // The mini reads its own style; a page of Base holds ten times the text tokens of its vision tokens in Tiny.
    let (style, characters) = match options.model {
        Some(_) => (Style::default(), 2500),
        None => (Style::mini(), 500),
    };
    let plan = decay::Plan { style, steps, rounds: 9, characters, conversations: options.conversations };
    println!("age  mode   characters  words  tokens");
    let (ages, table) = plan.measure(reader, |_, _| ())?;
    for aged in &ages {
        let [characters, words, tokens] =
            [aged.precision.characters, aged.precision.words, aged.precision.tokens].map(|share| 100.0 * share);
        println!("{:3}  {:6} {characters:9.1} % {words:6.1} {tokens:7.1}", aged.age, aged.mode.to_string());
    }
    table.save(&options.out.join("rounds.csv"))?;
    let mut plot = Plot::new("Rounds that fade", Axis::new("age in rounds"), percent_axis("characters read, %"));
    for &(_, mode) in &plan.steps {
        let same = ages.iter().filter(|aged| aged.mode == mode);
        let points: Vec<_> = same.map(|aged| (aged.age as f64, 100.0 * aged.precision.characters)).collect();
        plot = plot.with_series(format!("held in {mode}"), Mark::Dotted, points);
    }
    plot.save(&options.out.join("decay.png"))
}

fn ratio_axis(cells: &[&Cell], mode: Mode) -> Axis {
    let label = format!("text tokens to a vision token ({} to a page, as the paper counts)", pages::patches(mode));
    // At least as far as the paper's figures go.
    Axis::new(label).with_range(0.0, cells.iter().map(|cell| cell.ratio).fold(20.0, f64::max))
}

fn percent_axis(label: &str) -> Axis {
    Axis::new(label).with_range(0.0, 100.0)
}

fn sorted(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = points.collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn or<T: Clone>(named: &[T], default: impl FnOnce() -> Vec<T>) -> Vec<T> {
    if named.is_empty() { default() } else { named.to_vec() }
}

fn fonts(files: &[impl AsRef<Path>]) -> anyhow::Result<Vec<Font>> {
    let font = |file: &Path| -> anyhow::Result<Font> {
        let name = || file.display().to_string();
        Font::from_bytes(std::fs::read(file).with_context(name)?).with_context(name)
    };
    files.iter().map(|file| font(file.as_ref())).collect()
}
