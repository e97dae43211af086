//! One more token for each row of a batch: `cargo bench --bench step -- [--json] [--quick] [--model FOLDER]`.
//!
//! The limit is the time to read the weights that the step needs; how many experts that takes for several rows is
//! estimated for random routing, and printed beside it as counted.
#![allow(clippy::print_stdout)]

mod harness;

use deepseek_ocr::{
    Precision,
    decoder::{Cache, Mlp, Segment, ops::Rows},
};
use harness::{DecoderBench, Format, Machine, Memory, Options, Report, Work, distinct_experts};
use std::collections::BTreeSet;

const BATCHES: [usize; 3] = [1, 4, 16];

/// Positions before the first step: a prompt, or little, where the time for it counts.
const POSITIONS: usize = 300;
const FEW_POSITIONS: usize = 32;

/// Steps of a case, and room for them.
const RUNS: usize = 60;
const FEW_RUNS: usize = 12;
const MORE_POSITIONS: usize = 80;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let options = Options::get();
    let machine = Machine::measure(&options);
    let report = Report::new(&options, &machine);
    let memory = Memory::new();
    for format in options.formats(&Format::STEP) {
        let bench = DecoderBench::new(&options, format)?;
        for rows in BATCHES {
            let name = format!("step/{}/batch{rows}", format.name());
            if options.wants(&name) {
                let mut steps = Steps::new(&bench, rows, &options)?;
                let (seconds, machine) = machine.beside_reads(&memory, options.runs(RUNS, FEW_RUNS), || steps.next());
                let work = Work::step(bench.decoder.config(), rows, format.bits());
                report.time(&name, seconds, machine.limit(work, format));
            }
        }
        let name = format!("step/{}/experts-of-16", format.name());
        if options.wants(&name) {
            report.value(&name, experts(&bench, 16)?);
            report.value(&format!("{name}/random"), distinct_experts(bench.decoder.config(), 16));
        }
    }
    Ok(())
}

/// Rows that grow by a token at a time.
struct Steps<'a> {
    bench: &'a DecoderBench,
    cache: Cache,
    rows: Vec<usize>,
    seed: u32,
}

impl<'a> Steps<'a> {
    fn new(bench: &'a DecoderBench, rows: usize, options: &Options) -> anyhow::Result<Self> {
        let decoder = &bench.decoder;
        let positions = options.runs(POSITIONS, FEW_POSITIONS);
        let mut cache = Cache::new(decoder.config(), rows, positions + MORE_POSITIONS, &decoder.device());
        for row in 0..rows {
            let inputs = decoder.embed(&[Segment::Text(bench.ids(positions, row as u32))])?;
            decoder.prefill(inputs, &mut cache, row);
        }
        Ok(Self { bench, cache, rows: (0..rows).collect(), seed: 1000 })
    }

    fn next(&mut self) {
        let Self { bench, cache, rows, seed } = self;
        *seed += 1;
        let logits = bench.decoder.step(&bench.ids(rows.len(), *seed), rows, cache).into_data();
        assert_eq!(logits.num_elements(), rows.len() * bench.decoder.config().vocab);
    }
}

/// Distinct experts of a layer that so many positions take, in the mean over layers.
fn experts(bench: &DecoderBench, positions: usize) -> anyhow::Result<f64> {
    let decoder = &bench.decoder;
    let inputs = decoder.embed(&[Segment::Text(bench.ids(positions, 7))])?;
    let outputs = decoder.forward_all(inputs);
    let mut counts = Vec::new();
    for (layer, x) in outputs.iter().enumerate() {
        let Some(Mlp::Moe(moe)) = decoder.layers.get(layer + 1).map(|block| &block.mlp) else { continue };
        let chosen = moe
            .gate
            .forward(Rows::Together(Precision::Exact), decoder.mlp_inputs(layer + 1, x.clone()))
            .indices
            .into_data();
        counts.push(chosen.iter::<i64>().collect::<BTreeSet<_>>().len());
    }
    Ok(counts.iter().sum::<usize>() as f64 / counts.len() as f64)
}
