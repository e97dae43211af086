//! Products with stored weights: `cargo bench --bench linear -- [--json] [--quick] [--only NAME]`.
//!
//! One row, and a few, are held against the time to read the weights; many against what the cores multiply when nothing
//! has to be fetched. The weights that one row reads take turns, so that they come from memory and not from a cache.
#![allow(clippy::print_stdout)]

mod harness;

use deepseek_ocr_core::ops::{
    Precision,
    flex::{Isa, Kernel, Matrix, Weights},
};
use half::{bf16, f16};
use harness::{Format, Machine, Memory, Options, Report, fastest};
use std::thread;

/// Rows, inputs, outputs: of SAM's, CLIP's and the decoder's layers, and of an expert in a page's prompt.
const MANY: [[usize; 3]; 8] = [
    [4096, 768, 3072],
    [4096, 3072, 768],
    [4096, 768, 2304],
    [257, 1024, 4096],
    [300, 1280, 3584],
    [400, 1280, 896],
    [64, 1280, 1280],
    [37, 1280, 896],
];

/// Inputs and outputs: `lm_head`, the first layer's feed-forward pair, an expert.
const STREAMED: [[usize; 2]; 4] = [[1280, 129_280], [1280, 6848], [6848, 1280], [1280, 896]];
const FEW: [usize; 5] = [1, 2, 4, 8, 16];

/// Weights in turn amount to this much at least: more than a last cache holds.
const STREAM_BYTES: usize = 256 << 20;

/// Steps of the loop that measures the cores: some tens of milliseconds.
const SPIN_STEPS: usize = 1 << 20;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let options = Options::get();
    let machine = Machine::measure(&options);
    let report = Report::new(&options, &machine);
    let bench = Bench { options, machine, report, memory: Memory::new() };
    let best = Isa::best();
    for (format, precision) in [(Format::Bf16, Precision::Bf16), (Format::F32, Precision::Exact)] {
        if let Some(kernel) = Kernel::on(best, precision) {
            bench.many(&format!("linear/{}", format.name()), kernel, format);
        }
    }
    bench.many_by_isa();
    bench.streamed("linear/bf16", Kernel::new(Precision::Bf16));
    bench.streamed("linear/exact", Kernel::new(Precision::Exact));
    bench.types();
}

struct Bench {
    options: Options,
    machine: Machine,
    report: Report,
    memory: Memory,
}

impl Bench {
    /// Many rows: with bf16 weights and the precision of `kernel`, or with f32 weights.
    fn many(&self, name: &str, kernel: Kernel, format: Format) {
        let rate = spin(kernel, &self.options);
        for [rows, inputs, outputs] in MANY {
            let name = format!("{name}/{rows}x{inputs}x{outputs}");
            if !self.options.wants(&name) {
                continue;
            }
            let x = numbers(rows * inputs);
            let wide = numbers(inputs * outputs);
            let brain: Vec<bf16> = wide.iter().copied().map(bf16::from_f32).collect();
            let weights = if format == Format::F32 { Weights::F32(&wide) } else { Weights::Bf16(&brain) };
            let mut y = vec![0.0; rows * outputs];
            let matrix = Matrix::new(weights, outputs, inputs);
            let seconds = fastest(self.options.runs(20, 5), || kernel.linear(&x, matrix, None, &mut y));
            self.report.time(&name, seconds, 2.0 * (rows * inputs * outputs) as f64 / rate);
        }
    }

    /// Exact products on each instruction set.
    fn many_by_isa(&self) {
        for isa in Isa::ALL {
            if let Some(kernel) = Kernel::on(isa, Precision::Exact) {
                self.many(&format!("linear/exact/{isa:?}").to_lowercase(), kernel, Format::Bf16);
            }
        }
    }

    /// Few rows over bf16 weights.
    fn streamed(&self, name: &str, kernel: Kernel) {
        for [inputs, outputs] in STREAMED {
            let copies = STREAM_BYTES.div_ceil(inputs * outputs * size_of::<bf16>());
            let weights: Vec<bf16> = numbers(copies * inputs * outputs).into_iter().map(bf16::from_f32).collect();
            let matrix = Matrix::new(Weights::Bf16(&weights), copies * outputs, inputs);
            for rows in FEW {
                let name = format!("{name}/{rows}x{inputs}x{outputs}");
                if self.options.wants(&name) {
                    self.turns(&name, kernel, (matrix, copies), rows);
                }
            }
        }
    }

    /// One row over weights of the other types.
    fn types(&self) {
        let [inputs, outputs] = STREAMED[0];
        let wide = numbers(inputs * outputs);
        let half: Vec<f16> = wide.iter().copied().map(f16::from_f32).collect();
        for (name, weights) in [("f16", Weights::F16(&half)), ("f32", Weights::F32(&wide))] {
            let name = format!("linear/{name}/1x{inputs}x{outputs}");
            if self.options.wants(&name) {
                let matrix = Matrix::new(weights, outputs, inputs);
                self.turns(&name, Kernel::new(Precision::Exact), (matrix, 1), 1);
            }
        }
    }

    /// The time of one product among `copies` over weights that lie one behind the other.
    fn turns(&self, name: &str, kernel: Kernel, (all, copies): (Matrix<'_>, usize), rows: usize) {
        let outputs = all.outputs() / copies;
        let x = numbers(rows * all.inputs());
        let mut y = vec![0.0; rows * outputs];
        let (seconds, machine) = self.machine.beside_reads(&self.memory, self.options.runs(12, 4), || {
            for copy in 0..copies {
                let matrix = all.rows(copy * outputs..(copy + 1) * outputs);
                kernel.linear(&x, matrix, None, &mut y);
            }
        });
        self.report.time(name, seconds / copies as f64, (all.bytes() / copies) as f64 / machine.bandwidth());
    }
}

/// Operations a second of all threads.
fn spin(kernel: Kernel, options: &Options) -> f64 {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let all = || {
        thread::scope(|scope| {
            let tasks: Vec<_> = (0..threads).map(|_| scope.spawn(|| kernel.spin(SPIN_STEPS))).collect();
            tasks.into_iter().map(|task| task.join().unwrap_or(0.0)).sum::<f64>()
        })
    };
    all() / fastest(options.runs(10, 5), all)
}

/// Numbers between -1 and 1, all over.
fn numbers(count: usize) -> Vec<f32> {
    (0..count as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        .collect()
}
