//! Sets a text file on pages and writes them as PNG: TEXT-1.png, TEXT-2.png, ..
//!
//!     cargo run --release --example typeset -- TEXT.txt [--mode base] [--font serif] [--size 16] [--columns 2]
//!     cargo run --release --example typeset -- TEXT.txt --mode tiny --font mono --aligned 2x5
//!
//! `--font` is sans, serif, mono or a font file, which also stands in for what the embedded ones lack.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use anyhow::Context;
use clap::Parser;
use deepseek_ocr::{Font, Margins, Mode, Page, Style};
use std::path::PathBuf;

#[derive(Parser)]
struct Options {
    /// The text, in UTF-8
    text: PathBuf,
    /// The mode whose page view the pages fill: tiny, small, base or large
    #[arg(long, default_value_t = Mode::Base)]
    mode: Mode,
    #[arg(long, default_value = "sans")]
    font: String,
    /// Pixels of the em
    #[arg(long, default_value_t = 16.0)]
    size: f32,
    #[arg(long, default_value_t = 1)]
    columns: u32,
    /// Lines and characters to a vision token, as 2x5; it sets the size
    #[arg(long, value_parser = cells)]
    aligned: Option<(u32, u32)>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let text = std::fs::read_to_string(&options.text).with_context(|| options.text.display().to_string())?;
    let style = Style::default().with_mode(options.mode).with_font(font(&options.font)?).with_columns(options.columns);
    let style = match options.aligned {
        Some((lines, characters)) => style.with_margins(Margins::default()).with_aligned(lines, characters),
        None => style.with_size(options.size),
    };
    let typeset = Page::typeset(&text, &style)?;
    for (number, page) in (1..).zip(typeset.pages()) {
        let name = format!("{}-{number}.png", options.text.with_extension("").display());
        page.page.rgb().save(&name)?;
        println!("{name}: {} lines, {} characters", page.lines.len(), text[page.range.clone()].chars().count());
    }
    for missing in typeset.missing() {
        eprintln!("no font has {:?} (byte {})", missing.character, missing.at);
    }
    Ok(())
}

fn font(name: &str) -> anyhow::Result<Font> {
    Ok(match name {
        "sans" => Font::sans(),
        "serif" => Font::serif(),
        "mono" => Font::sans_mono(),
        file => Font::from_bytes(std::fs::read(file).with_context(|| format!("{file} is no font name or file"))?)?,
    })
}

fn cells(text: &str) -> Result<(u32, u32), String> {
    let (lines, characters) = text.split_once('x').ok_or("it should be LINESxCHARACTERS")?;
    let number = |part: &str| part.parse().map_err(|_| format!("{part:?} is no number"));
    Ok((number(lines)?, number(characters)?))
}
