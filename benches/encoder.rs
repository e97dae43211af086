//! The encoder over the views of a page, for each mode: `cargo bench --bench encoder -- [--json] [--quick] [--model FOLDER]`.
//!
//! The limit is the views' operations at the rate of the largest dense product that this library reaches.
#![allow(clippy::print_stdout)]

mod harness;

use deepseek_ocr::{Mode, TileGrid, Views};
use harness::{EncoderBench, EncoderCost, Format, Machine, Options, Peak, Report, fastest_when_warm, resident, view};
use std::num::NonZeroUsize;

/// Columns and rows of Gundam's tiles: an A4 page.
const GUNDAM: TileGrid = TileGrid { columns: 2, rows: 3 };

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Context<'a> {
    options: &'a Options,
    machine: &'a Machine,
    report: Report,
    format: Format,
}

fn main() -> anyhow::Result<()> {
    let options = Options::get();
    let machine = Machine::measure(&options);
    let report = Report::new(&options, &machine);
    for format in options.formats(&Format::ENCODER) {
        let bench = EncoderBench::new(&options, format)?;
        for mode in [Mode::Tiny, Mode::Small, Mode::Base, Mode::Large, Mode::Gundam] {
            let name = format!("encoder/{}/{mode}", format.name());
            if options.wants(&name) {
                run(&bench, mode, &name, &Context { options: &options, machine: &machine, report, format });
            }
        }
    }
    Ok(())
}

fn run(bench: &EncoderBench, mode: Mode, name: &str, context: &Context<'_>) {
    let &Context { options, machine, report, format } = context;
    let views = views(mode);
    let before = resident("RssAnon");
    let peak = Peak::of(|| encode(bench, &views));
    let seconds = fastest_when_warm(options.runs(3, 1), || encode(bench, &views));
    let all = views.tiles().iter().chain([views.page()]);
    let work = all.map(|view| EncoderCost(&bench.config).view(view.side())).sum();
    report.time(name, seconds, machine.limit(work, format));
    if let (Some(before), Some(peak)) = (before, peak) {
        report.bytes(&format!("{name}/extra-memory"), peak.anonymous.saturating_sub(before));
    }
}

/// Reads the result back, which waits for it.
fn encode(bench: &EncoderBench, views: &Views) -> Option<NonZeroUsize> {
    let data = bench.encoder.encode(views).tensor().into_data();
    assert!(data.iter::<f32>().all(f32::is_finite), "vision tokens are finite");
    NonZeroUsize::new(data.num_elements())
}

fn views(mode: Mode) -> Views {
    let geometry = mode.geometry();
    let (grid, tiles) = match geometry.tile_side {
        Some(side) => (GUNDAM, (0..GUNDAM.tiles() as u32).map(|tile| view(side, tile + 1)).collect()),
        None => (TileGrid::SINGLE, Vec::new()),
    };
    Views::new(mode, grid, view(geometry.page_side, 0), tiles)
}
