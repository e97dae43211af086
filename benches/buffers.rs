//! The largest buffer that each stage asks the allocator for: `cargo bench --bench buffers -- [--json] [--model FOLDER]`.
//!
//! The system's allocator maps and clears every buffer above 32 MB anew, so no stage may ask for a larger one: the bench fails where one does, and says
//! where it was asked for.
#![allow(clippy::print_stdout)]

mod harness;

use deepseek_ocr::{
    Mode,
    decoder::{Cache, Segment},
    preprocess,
};
use harness::{DecoderBench, EncoderBench, Format, Machine, Options, Report, page};
use std::{
    backtrace::Backtrace,
    sync::{Mutex, PoisonError},
};
use tracking_allocator::{AllocationGroupId, AllocationRegistry, AllocationTracker, Allocator};

/// glibc's limit for the size from which on each buffer is a mapping of its own.
const LIMIT: usize = 32 << 20;

/// Positions of a prompt, and rows of a step.
const PROMPT: usize = 300;
const ROWS: usize = 16;

#[global_allocator]
static ALLOCATOR: Allocator<mimalloc::MiMalloc> = Allocator::from_allocator(mimalloc::MiMalloc);

/// The largest buffer since it was last cleared.
static LARGEST: Mutex<Largest> = Mutex::new(NONE);

const NONE: Largest = Largest { bytes: 0, place: None };

struct Largest {
    bytes: usize,
    place: Option<Backtrace>,
}

struct Watch;

impl AllocationTracker for Watch {
    fn allocated(&self, _: usize, bytes: usize, _: usize, _: AllocationGroupId) {
        let mut largest = LARGEST.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes > largest.bytes {
            let place = (bytes > LIMIT).then(Backtrace::force_capture);
            *largest = Largest { bytes, place };
        }
    }

    fn deallocated(&self, _: usize, _: usize, _: usize, _: AllocationGroupId, _: AllocationGroupId) {}
}

fn main() -> anyhow::Result<()> {
    let options = Options::get();
    let report = Report::new(&options, &Machine::measure(&options));
    AllocationRegistry::set_global_tracker(Watch)?;
    for format in options.formats(&Format::ENCODER) {
        encoder(&options, report, format)?;
    }
    for format in options.formats(&Format::DECODER) {
        decoder(&options, report, format)?;
    }
    Ok(())
}

fn encoder(options: &Options, report: Report, format: Format) -> anyhow::Result<()> {
    let bench = EncoderBench::new(options, format)?;
    let page = page();
    for mode in [Mode::Tiny, Mode::Small, Mode::Base, Mode::Large, Mode::Gundam] {
        let name = format!("buffers/{}/{mode}", format.name());
        if options.wants(&name) {
            watch(report, &name, || bench.encoder.encode(&preprocess::views(&page, mode)).tensor().into_data())?;
        }
    }
    Ok(())
}

fn decoder(options: &Options, report: Report, format: Format) -> anyhow::Result<()> {
    let name = |work: &str| format!("buffers/{}/{work}", format.name());
    let [prefill, step] = [name("prefill"), name("step")];
    if !options.wants(&prefill) && !options.wants(&step) {
        return Ok(());
    }
    let bench = DecoderBench::new(options, format)?;
    let decoder = &bench.decoder;
    let rows: Vec<_> = (0..ROWS).collect();
    let mut cache = Cache::new(decoder.config(), ROWS, PROMPT + 1, &decoder.device());
    watch(report, &prefill, || -> anyhow::Result<()> {
        let prompt = decoder.embed(&[Segment::Text(bench.ids(PROMPT, 0))])?;
        rows.iter().for_each(|&row| drop(decoder.prefill(prompt.clone(), &mut cache, row).into_data()));
        Ok(())
    })??;
    watch(report, &step, || decoder.step(&bench.ids(ROWS, 1), &rows, &mut cache).into_data())?;
    Ok(())
}

/// The largest buffer that `work` asks for.
fn watch<T>(report: Report, name: &str, work: impl FnOnce() -> T) -> anyhow::Result<T> {
    let clear = || std::mem::replace(&mut *LARGEST.lock().unwrap_or_else(PoisonError::into_inner), NONE);
    clear();
    AllocationRegistry::enable_tracking();
    let result = work();
    AllocationRegistry::disable_tracking();
    let largest = clear();
    report.bytes(name, largest.bytes as u64);
    if let Some(place) = largest.place {
        anyhow::bail!("{name}: a buffer of {} bytes, asked for at\n{place}", largest.bytes);
    }
    Ok(result)
}
