//! Rounds that fade: what is left of them by age, and what each costs.

use crate::{
    precision::Precision,
    reader::Reader,
    table::{Table, rounded},
    text::Kind,
};
use deepseek_ocr::{Decay, Mode, OpticalMemory, Round, Style, TokenFormat};
use std::{collections::HashMap, time::Instant};

/// A conversation, told several times with other texts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How pages are set, for the sharpest mode.
    pub style: Style,
    /// The mode of new rounds, and from which age on they are held in which.
    pub steps: Vec<(u64, Mode)>,
    /// Rounds of a conversation.
    pub rounds: usize,
    /// Characters of a round.
    pub characters: usize,
    /// Conversations.
    pub conversations: usize,
}

/// Rounds of one age.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Aged {
    /// How long ago they were remembered.
    pub age: u64,
    /// The mode in which they are held.
    pub mode: Mode,
    /// What was read of them.
    pub precision: Precision,
}

impl Plan {
    /// Remembers all rounds and recalls them at the end; `done` hears of each round.
    ///
    /// # Errors
    /// Those of the memory and the model.
    pub fn measure(
        &self,
        reader: &Reader,
        mut done: impl FnMut(&Round, Precision),
    ) -> anyhow::Result<(Vec<Aged>, Table)> {
        let mut table = Table::new(&[
            "conversation",
            "age",
            "mode",
            "characters",
            "text_tokens",
            "vision_tokens",
            "text_bytes",
            "png_bytes",
            "bf16_bytes",
            "q8_bytes",
            "seconds_remember",
            "seconds_encode",
            "seconds_decode",
            "precision_characters",
            "precision_words",
            "precision_tokens",
        ]);
        let mut all = Vec::new();
        for conversation in 0..self.conversations {
            let mut memory = OpticalMemory::new(reader.ocr.clone(), self.style.clone(), usize::MAX);
            memory = memory.with_decay(self.decay())?;
            let mut texts = HashMap::new();
            for round in 0..self.rounds {
                let text = Kind::Prose.sample(conversation * self.rounds + round, self.characters);
                let started = Instant::now();
                let id = memory.remember(&text)?;
                texts.insert(id, (text, started.elapsed().as_secs_f64()));
            }
            for round in memory.rounds().collect::<Vec<_>>() {
                let (text, remembering) = &texts[&round.id];
                let started = Instant::now();
                let encoded = memory.encoded(round.id)?;
                let stored = |format| anyhow::Ok(encoded.to_bytes(format)?.len());
                let (encoding, bf16, q8) =
                    (started.elapsed().as_secs_f64(), stored(TokenFormat::Bf16)?, stored(TokenFormat::Q8)?);
                let started = Instant::now();
                let read = memory.recall(round.id)?.text();
                let decoding = started.elapsed().as_secs_f64();
                let precision = Precision::of(&read, text, &reader.tokenizer)?;
                let (share, seconds) = (|part| rounded(part, 4), |seconds: &f64| rounded(*seconds, 4));
                table.push(&[
                    &conversation,
                    &round.age,
                    &round.mode,
                    &text.chars().count(),
                    &reader.tokenizer.encode(text)?.len(),
                    &round.vision_tokens,
                    &text.len(),
                    &round.image_bytes,
                    &bf16,
                    &q8,
                    &seconds(remembering),
                    &seconds(&encoding),
                    &seconds(&decoding),
                    &share(precision.characters),
                    &share(precision.words),
                    &share(precision.tokens),
                ]);
                done(&round, precision);
                all.push(Aged { age: round.age, mode: round.mode, precision });
            }
        }
        Ok((by_age(&all), table))
    }

    fn decay(&self) -> Decay {
        let sharpest = self.steps.first().map_or(Mode::Base, |step| step.1);
        self.steps.iter().fold(Decay::new(sharpest), |decay, &(age, mode)| decay.then(age, mode))
    }
}

/// The mean of each age, from the newest on.
fn by_age(all: &[Aged]) -> Vec<Aged> {
    let mut ages: Vec<Aged> = all.to_vec();
    ages.sort_by_key(|aged| aged.age);
    ages.dedup_by_key(|aged| aged.age);
    let mean = |of: &Aged| {
        let same = all.iter().filter(|other| other.age == of.age).map(|other| other.precision);
        Aged { precision: Precision::mean(same), ..*of }
    };
    ages.iter().map(mean).collect()
}
