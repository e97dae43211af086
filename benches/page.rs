//! A page from pixels to tokens: `cargo bench --bench page -- [--json] [--quick] [--model FOLDER]`.
//!
//! Small mode with 300 generated tokens, and the peak of resident memory over a Base page; with a folder, how long it loads. The page is noise of the
//! size of a scan; tokens are chosen greedily and never turned into text, which takes no time worth counting.
#![allow(clippy::print_stdout)]

mod harness;

use deepseek_ocr::{
    Mode, Page,
    decoder::{GenerateOptions, Generation, LoopStop, Prompt, Segment},
    preprocess,
};
use harness::{
    DecoderBench, EncoderBench, EncoderCost, Format, Machine, Options, PAGE_HEIGHT, PAGE_WIDTH, Peak, Report, Work,
    page,
};
use std::time::Instant;

/// Tokens of the answer.
const TOKENS: usize = 300;
const FEW_TOKENS: usize = 40;

/// Tokens of the prompt before and after the page, as in the released prompt for Markdown.
const BEFORE: usize = 1;
const AFTER: usize = 4;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Bench {
    options: Options,
    machine: Machine,
    report: Report,
    page: Page,
    format: Format,
    encoder: EncoderBench,
    decoder: DecoderBench,
}

struct Times {
    vision: f64,
    first: f64,
    whole: f64,
}

fn main() -> anyhow::Result<()> {
    let options = Options::get();
    let machine = Machine::measure(&options);
    let report = Report::new(&options, &machine);
    for format in options.formats(&Format::DECODER) {
        let start = Instant::now();
        let decoder = DecoderBench::new(&options, format)?;
        if options.model.is_some() {
            report.plain_time(&format!("page/{}/load", format.name()), start.elapsed().as_secs_f64());
        }
        let encoder = EncoderBench::new(&options, format)?;
        let bench = Bench { options: options.clone(), machine, report, page: page(), format, encoder, decoder };
        let name = |mode: Mode| format!("page/{}/{mode}", format.name());
        // Before anything else was in memory.
        if options.wants(&name(Mode::Base)) {
            bench.base(&name(Mode::Base))?;
        }
        if options.wants(&name(Mode::Small)) {
            bench.small(&name(Mode::Small))?;
        }
    }
    Ok(())
}

impl Bench {
    fn small(&self, name: &str) -> anyhow::Result<()> {
        let Self { options, machine, report, format, decoder, .. } = self;
        let tokens = options.runs(TOKENS, FEW_TOKENS);
        let mut best = self.read(Mode::Small, tokens)?;
        for _ in 1..options.runs(2, 1) {
            let again = self.read(Mode::Small, tokens)?;
            best = if again.whole < best.whole { again } else { best };
        }
        let config = decoder.decoder.config();
        let vision = self.vision_limit(Mode::Small);
        let prompt = BEFORE + Mode::Small.vision_tokens(PAGE_WIDTH, PAGE_HEIGHT) + AFTER;
        let first = vision + machine.limit(Work::prefill(config, prompt, format.bits()), *format);
        let step = machine.limit(Work::step(config, 1, format.bits()), *format);
        let steps = (tokens - 1) as f64;
        report.time(name, best.whole, first + steps * step);
        report.time(&format!("{name}/vision"), best.vision, vision);
        report.time(&format!("{name}/first"), best.first, first);
        report.time(&format!("{name}/token"), (best.whole - best.first) / steps, step);
        Ok(())
    }

    fn base(&self, name: &str) -> anyhow::Result<()> {
        let Self { report, .. } = self;
        let mut times = None;
        let peak = Peak::of(|| times = Some(self.read(Mode::Base, FEW_TOKENS)));
        if let Some(times) = times.transpose()? {
            report.time(&format!("{name}/vision"), times.vision, self.vision_limit(Mode::Base));
        }
        if let Some(peak) = peak {
            report.bytes(&format!("{name}/rss"), peak.total);
            report.bytes(&format!("{name}/rss-anonymous"), peak.anonymous);
        }
        Ok(())
    }

    fn vision_limit(&self, mode: Mode) -> f64 {
        self.machine.limit(EncoderCost(&self.encoder.config).view(mode.geometry().page_side), self.format)
    }

    fn read(&self, mode: Mode, tokens: usize) -> anyhow::Result<Times> {
        let Self { page, encoder, decoder, .. } = self;
        let start = Instant::now();
        let seconds = || start.elapsed().as_secs_f64();
        let decoder_module = &decoder.decoder;
        let vision = encoder.encoder.encode(&preprocess::views(page, mode));
        let vision_seconds = seconds();
        let segments =
            vec![Segment::Text(decoder.ids(BEFORE, 1)), Segment::Vision(vision), Segment::Text(decoder.ids(AFTER, 2))];
        let no_token = decoder_module.config().vocab as u32;
        let options = GenerateOptions::new(no_token).with_max_new_tokens(tokens).with_loop_stop(LoopStop::OFF);
        let prompt = Prompt { segments, vision_id: no_token };
        let mut generation = Generation::new(decoder_module, vec![(prompt, options)])?;
        generation.advance(decoder_module)?;
        let first = seconds();
        while !generation.is_finished() {
            generation.advance(decoder_module)?;
        }
        assert_eq!(generation.ids(0).len(), tokens);
        Ok(Times { vision: vision_seconds, first, whole: seconds() })
    }
}
