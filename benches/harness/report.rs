//! Timing and output.

use super::{Format, Machine, Options};
use std::{hint::black_box, time::Instant};

/// Prints results: a table, or JSON lines.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    json: bool,
}

/// Seconds of the fastest of `runs` runs, after one that does not count: it fills buffers and caches.
pub fn fastest<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    black_box(work());
    fastest_when_warm(runs, work)
}

/// Seconds of the fastest of `runs` runs.
///
/// The fastest and not the middle one, because what slows a run down here are the neighbours on the machine.
pub fn fastest_when_warm<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    let once = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed().as_secs_f64()
    };
    (0..runs.max(1)).map(once).fold(f64::INFINITY, f64::min)
}

impl Report {
    /// A report in the form that the options ask for, headed by the machine's limits.
    pub fn new(options: &Options, machine: &Machine) -> Self {
        let report = Self { json: options.json };
        if report.json {
            println!(r#"{{"name": "machine/read", "bytes_per_second": {:.4e}}}"#, machine.bandwidth());
            for format in [Format::Bf16, Format::F32] {
                let (name, rate) = (format.name(), machine.dense(format));
                println!(r#"{{"name": "machine/dense/{name}", "flops": {rate:.4e}}}"#);
            }
        } else {
            let [bf16, f32] = [Format::Bf16, Format::F32].map(|format| machine.dense(format) / 1e9);
            let bandwidth = machine.bandwidth() / 1e9;
            println!(
                "the machine reads {bandwidth:.1} GB/s; dense products {bf16:.0} GFLOP/s in bf16, {f32:.0} in f32"
            );
            println!("{:32} {:>12} {:>12} {:>9}", "name", "time", "limit", "fraction");
        }
        report
    }

    /// A report of what is held against no limit of the machine.
    pub fn without_limits(options: &Options) -> Self {
        Self { json: options.json }
    }

    /// A time beside its limit.
    pub fn time(self, name: &str, seconds: f64, limit: f64) {
        let fraction = limit / seconds;
        if self.json {
            println!(
                r#"{{"name": "{name}", "seconds": {seconds:.6}, "limit_seconds": {limit:.6}, "fraction": {fraction:.4}}}"#
            );
        } else {
            println!("{name:32} {:9.3} ms {:9.3} ms {:8.1} %", seconds * 1e3, limit * 1e3, fraction * 100.0);
        }
    }

    /// A time that is held against no limit.
    pub fn plain_time(self, name: &str, seconds: f64) {
        if self.json {
            println!(r#"{{"name": "{name}", "seconds": {seconds:.6}}}"#);
        } else {
            println!("{name:32} {:9.3} ms", seconds * 1e3);
        }
    }

    /// Memory.
    pub fn bytes(self, name: &str, bytes: u64) {
        if self.json {
            println!(r#"{{"name": "{name}", "bytes": {bytes}}}"#);
        } else {
            println!("{name:32} {:9.1} MB", bytes as f64 / 1e6);
        }
    }

    /// Any other number.
    pub fn value(self, name: &str, value: f64) {
        if self.json {
            println!(r#"{{"name": "{name}", "value": {value:.4}}}"#);
        } else {
            println!("{name:32} {value:9.2}");
        }
    }
}
