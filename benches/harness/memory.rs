//! Resident memory, as the kernel counts it.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

/// The most resident memory while something ran.
#[derive(Debug, Clone, Copy)]
pub struct Peak {
    /// Pages of files included.
    pub total: u64,
    /// Memory that no file backs.
    pub anonymous: u64,
}

/// How often anonymous memory is looked at: short peaks of a few milliseconds are in the total alone.
const INTERVAL: Duration = Duration::from_millis(2);

impl Peak {
    /// Runs `work` and watches. `None` where the system does not tell.
    pub fn of<T>(work: impl FnOnce() -> T) -> Option<Self> {
        // Starts the kernel's own high-water mark anew; where that is not allowed, the mark holds what came before, too.
        let _ = fs::write("/proc/self/clear_refs", "5");
        let done = AtomicBool::new(false);
        let anonymous = thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = resident("RssAnon");
                while !done.load(Ordering::Relaxed) {
                    thread::sleep(INTERVAL);
                    most = most.max(resident("RssAnon"));
                }
                most
            });
            std::hint::black_box(work());
            done.store(true, Ordering::Relaxed);
            watch.join().ok().flatten()
        });
        Some(Self { total: resident("VmHWM")?, anonymous: anonymous? })
    }
}

/// A field of the process's status in bytes: `VmRSS`, `VmHWM`, `RssAnon`, `RssFile`.
pub fn resident(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field) && line[field.len()..].starts_with(':'))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}
