//! A memory in one file: the rounds' images in safetensors, everything else as JSON in its metadata.
//!
//! Vision tokens are not stored: an image takes a fraction of their bytes, and they are made of it again.

use super::{Decay, Held, Kept, KeptPage, OpticalMemory, RoundId};
use crate::{
    DeepseekOcr,
    optical::storage::{number, parts, write_whole},
};
use deepseek_ocr_core::{Error, Mode, Result};
use deepseek_ocr_preprocess::{Page, Style};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};
use std::{collections::HashMap, path::Path};

/// The key of our JSON in the file's metadata.
const KEY: &str = "deepseek-ocr-optical-memory";
const VERSION: u64 = 1;

impl OpticalMemory {
    /// Writes the memory to a file, whole or not at all: until it is complete it has another name, so that a crash leaves what was
    /// saved before.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let invalid = |source: safetensors::SafeTensorError| Error::Safetensors {
            path: path.to_owned(),
            reason: source.to_string(),
        };
        let mut images = Vec::new();
        for round in &self.rounds {
            for (index, page) in round.pages.iter().enumerate() {
                let view = TensorView::new(Dtype::U8, vec![page.png.len()], &page.png).map_err(invalid)?;
                images.push((name(round.id, index), view));
            }
        }
        let metadata = HashMap::from([(KEY.to_owned(), self.metadata().to_string())]);
        let bytes = safetensors::serialize(images, Some(metadata)).map_err(invalid)?;
        write_whole(path, &bytes)
    }

    /// Reads a memory that [`save`](Self::save) wrote, for a model and for the style of what will be added.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Safetensors`] if it is no such file or damaged.
    pub fn open(path: impl AsRef<Path>, ocr: DeepseekOcr, style: Style) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::read(path))?;
        let mut memory = Self::new(ocr, style, 0);
        match memory.read(&bytes) {
            Ok(()) => Ok(memory),
            Err(reason) => Err(Error::Safetensors { path: path.to_owned(), reason }),
        }
    }

    fn metadata(&self) -> Value {
        let page = |page: &KeptPage| json!([page.range.start, page.range.end, page.text_tokens]);
        let round = |Kept { id, held, pages, .. }: &Kept| {
            json!({
                "id": id.0,
                "born": held.born,
                "mode": held.mode.to_string(),
                "pinned": held.pinned,
                "size": [held.size.0, held.size.1],
                "pages": pages.iter().map(page).collect::<Vec<_>>(),
            })
        };
        let (steps, end) = self.decay.steps();
        let step = |(age, mode): &(u64, Mode)| json!([age, mode.to_string()]);
        json!({
            "version": VERSION,
            "budget": self.budget,
            "clock": self.clock,
            "next": self.next,
            "sharpest": self.decay.sharpest().to_string(),
            "steps": steps.iter().map(step).collect::<Vec<_>>(),
            "gone_after": end,
            "rounds": self.rounds.iter().map(round).collect::<Vec<_>>(),
        })
    }

    /// Fills an empty memory, or says what is wrong with the file.
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (file, json) = parts(bytes, KEY, VERSION)?;
        self.budget = number(&json["budget"], "budget")?;
        self.clock = count(&json["clock"], "clock")?;
        self.next = count(&json["next"], "next")?;
        self.decay = decay(&json)?;
        for json in list(&json, "rounds")? {
            let kept = round(json, &file)?;
            let later = self.rounds.last().is_none_or(|last| last.id < kept.id && last.held.born <= kept.held.born);
            if kept.id.0 >= self.next || kept.held.born > self.clock || !later {
                return Err(format!("round {} is out of order", kept.id));
            }
            self.rounds.push(kept);
        }
        let tokens = self.vision_tokens();
        if tokens > self.budget {
            return Err(format!("{tokens} vision tokens are over the budget of {}", self.budget));
        }
        Ok(())
    }
}

fn name(id: RoundId, page: usize) -> String {
    format!("round.{id}.page.{page}.png")
}

fn decay(json: &Value) -> Result<Decay, String> {
    let mut decay =
        Decay::new(mode(&json["sharpest"])?).gone_after(json["gone_after"].as_u64().ok_or("gone_after is missing")?);
    for step in list(json, "steps")? {
        decay = decay.then(number(&step[0], "the age of a step")?, mode(&step[1])?);
    }
    Ok(decay)
}

fn round(json: &Value, file: &SafeTensors<'_>) -> Result<Kept, String> {
    let id = RoundId(number(&json["id"], "id")?);
    let side = |at: usize| number(&json["size"][at], "size");
    let size: (u32, u32) = (side(0)?, side(1)?);
    let mut pages = Vec::new();
    for (index, page) in list(json, "pages")?.iter().enumerate() {
        let name = name(id, index);
        let image = file.tensor(&name).map_err(|error| error.to_string())?;
        let png = image.data().to_vec();
        let shown = Page::from_bytes(&png).map_err(|error| format!("{name}: {error}"))?;
        if (shown.width(), shown.height()) != size {
            return Err(format!("{name} is {} x {}, expected {} x {}", shown.width(), shown.height(), size.0, size.1));
        }
        let field = |at: usize| number(&page[at], "a page's place in its text");
        pages.push(KeptPage { png, range: field(0)?..field(1)?, text_tokens: field(2)? });
    }
    if pages.is_empty() {
        return Err(format!("round {id} has no pages"));
    }
    let held = Held {
        born: number(&json["born"], "born")?,
        mode: mode(&json["mode"])?,
        pinned: json["pinned"].as_bool().ok_or("pinned is missing")?,
        pages: pages.len(),
        size,
    };
    Ok(Kept { id, held, pages: pages.into(), encoded: None })
}

/// A number that can be counted on from.
fn count(json: &Value, what: &str) -> Result<u64, String> {
    /// Up to here JSON's numbers are exact everywhere (RFC 8259, section 6), and no program lives to see the end.
    const MOST: u64 = 1 << 53;
    let count = number(json, what)?;
    if count < MOST { Ok(count) } else { Err(format!("{what} is {count}, expected less than {MOST}")) }
}

fn mode(json: &Value) -> Result<Mode, String> {
    json.as_str().and_then(|mode| mode.parse().ok()).ok_or_else(|| format!("{json} is no mode"))
}

fn list<'a>(json: &'a Value, field: &str) -> Result<&'a Vec<Value>, String> {
    json[field].as_array().ok_or_else(|| format!("{field} is missing"))
}
