//! The host's memory while a model goes to a device: `cargo bench --bench upload --features wgpu -- --device wgpu --model FOLDER [--json]`.
//!
//! Counts what the program asks its allocator for from its start until the model is loaded; the bench fails where the peak is above 1 GB. What a device
//! allocates is not the allocator's, that of Mesa's software Vulkan neither: so the figure means the same there. Resident memory that no file backs is printed
//! beside it, and does hold what such a device allocates.
#![allow(clippy::print_stdout)]

mod harness;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use deepseek_ocr::{DeepseekOcr, Device};
use harness::{Options, Peak, Report};
use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Instant,
};
use tracking_allocator::{AllocationGroupId, AllocationRegistry, AllocationTracker, Allocator};

/// Bytes on the host's heap at most: far less than the weights, and enough for what is on its way.
const LIMIT: u64 = 1_000_000_000;

#[global_allocator]
static ALLOCATOR: Allocator<mimalloc::MiMalloc> = Allocator::from_allocator(mimalloc::MiMalloc);

/// Bytes that are allocated, and the most that ever were.
static HELD: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

struct Count;

#[derive(Debug, Parser)]
struct UploadOptions {
    #[command(flatten)]
    common: Options,
    /// As `deepseek_ocr::device` knows it.
    #[arg(long, default_value = "cuda")]
    device: String,
}

impl AllocationTracker for Count {
    fn allocated(&self, _: usize, bytes: usize, _: usize, _: AllocationGroupId) {
        let held = HELD.fetch_add(bytes as i64, Relaxed) + bytes as i64;
        MOST.fetch_max(held, Relaxed);
    }

    fn deallocated(&self, _: usize, bytes: usize, _: usize, _: AllocationGroupId, _: AllocationGroupId) {
        HELD.fetch_sub(bytes as i64, Relaxed);
    }
}

fn main() -> Result<()> {
    AllocationRegistry::set_global_tracker(Count)?;
    AllocationRegistry::enable_tracking();
    let UploadOptions { common, device: name } = UploadOptions::parse();
    let folder = common.model.as_ref().context("--model names the folder to load")?;
    let device = deepseek_ocr::device(&name)?;
    let report = Report::without_limits(&common);
    let (start, mut loaded) = (Instant::now(), None);
    let resident = Peak::of(|| loaded = Some(load(folder, &device)));
    let seconds = start.elapsed().as_secs_f64();
    loaded.context("nothing was loaded")??;
    let heap = MOST.load(Relaxed).unsigned_abs();
    report.plain_time(&format!("upload/{name}/load"), seconds);
    report.bytes(&format!("upload/{name}/weights"), weights(folder)?);
    report.bytes(&format!("upload/{name}/heap"), heap);
    if let Some(resident) = resident {
        report.bytes(&format!("upload/{name}/rss-anonymous"), resident.anonymous);
    }
    ensure!(heap <= LIMIT, "the host's heap held {heap} bytes, more than {LIMIT}");
    Ok(())
}

fn load(folder: &Path, device: &Device) -> Result<()> {
    let _model = DeepseekOcr::from_dir(folder, device)?;
    // Until what was on its way has arrived.
    device.sync().map_err(|error| anyhow!("{error}"))
}

/// Bytes of the folder's weights as they are stored.
fn weights(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "safetensors") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}
