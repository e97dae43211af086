//! What the machine can do at best, measured in the same run as the work.

use super::{Format, Options, Work, fastest, fastest_when_warm};
use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};
use deepseek_ocr_core::ops::{Precision, linear_with};
use std::thread;

/// The machine's limits.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    bandwidth: f64,
    bf16: f64,
    f32: f64,
}

/// Memory that the read bandwidth is measured over.
#[derive(Debug)]
pub struct Memory {
    words: Vec<u64>,
}

/// Far more than any cache holds.
const READ_BYTES: usize = 2 << 30;

/// Runs of the work for each reading of memory beside it.
const RUNS_PER_READ: usize = 4;

/// Rows, inputs and outputs of the products among which the fastest is the limit: the largest of SAM and of CLIP, in
/// row counts that keep the output below 32 MB.
const PRODUCTS: [[usize; 3]; 3] = [[2048, 768, 3072], [2048, 3072, 768], [1024, 1024, 4096]];

impl Machine {
    /// Measures; takes a few seconds.
    pub fn measure(options: &Options) -> Self {
        let runs = options.runs(10, 5);
        Self { bandwidth: Memory::new().bandwidth(runs), bf16: dense(DType::BF16, runs), f32: dense(DType::F32, runs) }
    }

    /// The limits of a GPU: what a copy of so many bytes reads and writes, and products of so large squares.
    pub fn of_device(device: &Device, options: &Options, [bytes, side]: [usize; 2]) -> Self {
        let runs = options.runs(10, 3);
        let numbers = bytes / size_of::<f32>();
        let x = Tensor::<1>::ones([numbers], (device, DType::F32));
        // The last result is dropped, not read back: a read would cross the bus.
        let wait = |_: &dyn std::any::Any| device.sync().expect("the device works");
        let seconds = fastest(runs, || wait(&(x.clone() + 1.0)));
        let product = |dtype: DType| {
            if !device.supports_dtype(dtype) {
                return 0.0;
            }
            let x = Tensor::<2>::ones([side, side], (device, DType::F32)).cast(dtype);
            2.0 * (side as f64).powi(3) / fastest(runs, || wait(&x.clone().matmul(x.clone())))
        };
        Self { bandwidth: 2.0 * bytes as f64 / seconds, bf16: product(DType::BF16), f32: product(DType::F32) }
    }

    /// Bytes a second.
    pub fn bandwidth(&self) -> f64 {
        self.bandwidth
    }

    /// Seconds of the fastest run of `work`, and the machine with the bandwidth of the fastest reading between the runs.
    ///
    /// What a virtual machine reads in a second changes by half within seconds, with its neighbours: a limit that was
    /// measured before the work says little about it.
    pub fn beside_reads<T>(self, memory: &Memory, runs: usize, mut work: impl FnMut() -> T) -> (f64, Self) {
        let (mut seconds, mut bandwidth) = (f64::INFINITY, 0.0f64);
        for _ in 0..runs.div_ceil(RUNS_PER_READ) {
            bandwidth = bandwidth.max(memory.bandwidth(1));
            seconds = seconds.min(fastest_when_warm(RUNS_PER_READ, &mut work));
        }
        (seconds, Self { bandwidth, ..self })
    }

    /// Operations a second of a dense product at this precision; quantised weights are held against bf16.
    pub fn dense(&self, format: Format) -> f64 {
        if format.precision() == Precision::Exact { self.f32 } else { self.bf16 }
    }

    /// The time that some work takes at least: reading its weights or doing its sums, whichever takes longer.
    pub fn limit(&self, work: Work, format: Format) -> f64 {
        (work.bytes / self.bandwidth).max(work.flops / self.dense(format))
    }
}

impl Memory {
    /// Takes two gigabytes.
    pub fn new() -> Self {
        // Not zeros, of which the system would have one page for all.
        Self { words: (0..(READ_BYTES / size_of::<u64>()) as u64).collect() }
    }

    /// Bytes a second that all threads read together, in the fastest of `runs` runs.
    pub fn bandwidth(&self, runs: usize) -> f64 {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let read = || {
            thread::scope(|scope| {
                let parts = self.words.chunks(self.words.len().div_ceil(threads));
                let tasks: Vec<_> = parts.map(|part| scope.spawn(|| sum(part))).collect();
                tasks.into_iter().map(|task| task.join().unwrap_or(0)).fold(0, u64::wrapping_add)
            })
        };
        READ_BYTES as f64 / fastest_when_warm(runs, read)
    }
}

/// Several sums, so that additions do not wait for each other.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    for chunk in words.chunks_exact(sums.len()) {
        sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}

fn dense(dtype: DType, runs: usize) -> f64 {
    let device = Device::flex();
    let rate = |[rows, inputs, outputs]: [usize; 3]| {
        let x = Tensor::<2>::random([rows, inputs], Distribution::Uniform(-1.0, 1.0), &device);
        let weight: TensorData =
            Tensor::<2>::random([outputs, inputs], Distribution::Uniform(-1.0, 1.0), &device).into_data();
        let weight = Tensor::<2>::from_data(weight.convert_dtype(dtype), (&device, dtype));
        let seconds = fastest(runs, || linear_with(Precision::Bf16, x.clone(), weight.clone(), None));
        2.0 * (rows * inputs * outputs) as f64 / seconds
    };
    PRODUCTS.into_iter().map(rate).fold(0.0, f64::max)
}
