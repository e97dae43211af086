//! Prompts through the decoder: `cargo bench --bench prefill -- [--json] [--quick] [--model FOLDER]`.
//!
//! 116 positions are a page in Small mode with its prompt, 300 one in Base mode with a longer one.
#![allow(clippy::print_stdout)]

mod harness;

use deepseek_ocr::decoder::{Cache, Segment};
use harness::{DecoderBench, Format, Machine, Options, Report, Work, fastest};

const POSITIONS: [usize; 2] = [116, 300];

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let options = Options::get();
    let machine = Machine::measure(&options);
    let report = Report::new(&options, &machine);
    for format in options.formats(&Format::DECODER) {
        let bench = DecoderBench::new(&options, format)?;
        for positions in POSITIONS {
            let name = format!("prefill/{}/{positions}", format.name());
            if !options.wants(&name) {
                continue;
            }
            let inputs = bench.decoder.embed(&[Segment::Text(bench.ids(positions, 0))])?;
            let read = || {
                let mut cache = Cache::new(bench.decoder.config(), 1, positions, &bench.decoder.device());
                let logits = bench.decoder.prefill(inputs.clone(), &mut cache, 0).into_data();
                assert!(logits.iter::<f32>().all(f32::is_finite), "logits are finite");
            };
            let seconds = fastest(options.runs(5, 1), read);
            let work = Work::prefill(bench.decoder.config(), positions, format.bits());
            report.time(&name, seconds, machine.limit(work, format));
        }
    }
    Ok(())
}
