//! Text to pages: `cargo bench --bench typeset -- [--json] [--quick]`.
//!
//! A Base page of 3,000 characters of prose set at once, the same in cells, and one word added to it.
#![allow(clippy::print_stdout)]

mod harness;

use deepseek_ocr::{Font, Mode, Page, Style, Typesetter};
use harness::{Machine, Options, Report, fastest};

/// Characters of the page.
const CHARACTERS: usize = 3000;

const PROSE: &str = include_str!("../examples/compression_study/texts/prose.txt");

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let options = Options::get();
    let report = Report::new(&options, &Machine::measure(&options));
    let text: String =
        PROSE.split_whitespace().collect::<Vec<_>>().join(" ").chars().cycle().take(CHARACTERS).collect();
    let flow = Style::default().with_mode(Mode::Base).with_font(Font::serif()).with_size(14.0);
    let cells = Style::mini().with_mode(Mode::Base).with_aligned(3, 7);
    for (name, style) in [("typeset/flow", &flow), ("typeset/aligned", &cells)] {
        anyhow::ensure!(Page::typeset(&text, style)?.pages().len() == 1, "the text fills one page");
        if options.wants(name) {
            report.plain_time(name, fastest(options.runs(100, 10), || Page::typeset(&text, style)));
        }
    }
    if options.wants("typeset/append") {
        let words = options.runs(100, 10);
        let mut typesetter = Typesetter::new(flow)?;
        typesetter.push_str(&text);
        report.plain_time("typeset/append", fastest(words, || typesetter.push_str(" word")));
    }
    Ok(())
}
