//! A conversation of thirty rounds as pages within a budget of vision tokens: what is left of each, and what is read back from it.
//!
//!     cargo run --release --example optical_memory -- [--budget 1200] [--model FOLDER]
//!
//! The embedded mini checkpoint was trained for Tiny alone, so rounds are held in Tiny until the budget takes the oldest. With
//! `--model` they begin in Base and fade to Small and Tiny first.
#![allow(clippy::print_stdout)]

use clap::Parser;
use deepseek_ocr::{Decay, DeepseekOcr, Device, Mode, OpticalMemory, Pin, Style};
use std::{collections::HashMap, path::PathBuf};

/// Keeps memory, as every program with a model should; the crate's documentation says why.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
struct Options {
    /// Vision tokens that the whole memory may take
    #[arg(long, default_value_t = 1200)]
    budget: usize,
    #[arg(long)]
    model: Option<PathBuf>,
}

const ROUNDS: usize = 30;
/// The round that is never to be lost.
const PINNED: usize = 3;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (ocr, style, decay) = match &options.model {
        Some(folder) => {
            let decay = Decay::new(Mode::Base).then(2, Mode::Small).then(6, Mode::Tiny);
            (DeepseekOcr::from_dir(folder, &Device::default())?, Style::default(), decay)
        }
        None => (DeepseekOcr::mini(&Device::default())?, Style::mini(), Decay::new(Mode::Tiny)),
    };
    let mut memory = OpticalMemory::new(ocr, style, options.budget).with_decay(decay)?;
    let mut texts = HashMap::new();
    for round in 1..=ROUNDS {
        let text = text(round);
        let id = memory.remember(&text)?;
        if round == PINNED {
            memory.pin(id, Pin::Hold)?;
        }
        texts.insert(id, (round, text));
    }

    println!("round  age  mode  vision  text    read  the sum");
    let rounds: Vec<_> = memory.rounds().collect();
    for held in &rounds {
        let (round, text) = &texts[&held.id];
        // The pages have line ends where the text has spaces.
        let read = memory.recall(held.id)?.text().replace('\n', " ");
        let right = 100.0 * strsim::normalized_levenshtein(&read, text);
        let number = read.find("sum of").map_or("", |at| read[at..].get(7..11).unwrap_or_default());
        let (mode, vision, tokens) = (held.mode.to_string(), held.vision_tokens, held.text_tokens);
        println!("{round:5} {:4}  {mode:6} {vision:5} {tokens:5}  {right:5.1} %  {number}", held.age);
    }
    let text_tokens: usize = rounds.iter().map(|round| round.text_tokens).sum();
    println!(
        "{} of {ROUNDS} rounds in {} of {} vision tokens; as text they are {text_tokens} tokens of this model's tokenizer",
        rounds.len(),
        memory.vision_tokens(),
        memory.budget(),
    );
    Ok(())
}

/// What was said in a round: prose of a few sentences, with a number that nobody could guess.
fn text(round: usize) -> String {
    let pick = |words: [&'static str; 7], step: usize| words[(round * step + round / 7) % words.len()];
    let thing = pick(["wheat", "timber", "cotton", "iron", "wool", "leather", "paper"], 1);
    let place = pick(["Boston", "London", "Chicago", "Paris", "New York", "Dublin", "Vienna"], 2);
    let person = pick(["captain", "lawyer", "doctor", "farmer", "teacher", "printer", "governor"], 3);
    let hour = pick(["morning", "evening", "afternoon", "night", "hour", "week", "day"], 4);
    let code = round * 7919 % 10_000;
    format!(
        "Round {round}. The {person} wrote that the {thing} from {place} had not been sent, and asked who should pay for \
         the delay. You answered that the sum of {code:04} dollars was held by the bank and would be given to him on the next \
         {hour}. He was not content with this and said that the people of {place} had never before waited so long for \
         their money, but that he would come himself and see to it. At last it was agreed that the price of the {thing} \
         should be the same as in the year before."
    )
}
