//! From a task and the vision tokens of its pages to the segments that the decoder reads.

use crate::{
    Task, Tokenizer,
    request::{AnswerOptions, NoRepeat},
    task::IMAGE,
};
use deepseek_ocr_core::{Error, Result, VisionTokens};
use deepseek_ocr_decoder::{GenerateOptions, NoRepeat as NoRepeatIds, Prompt, Segment};

impl Tokenizer {
    /// The prompt of `task` over encoded pages, in the released "plain" format: `[bos] text <image> text ..` without roles
    /// or template, the whole text trimmed.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the prompt has places for another number of pages, or if what is to be located is
    /// empty or carries special tokens.
    pub fn prompt(&self, task: &Task, pages: Vec<VisionTokens>) -> Result<Prompt> {
        let parts = self.prompt_parts(task, pages.len())?;
        Ok(self.prompt_around(parts, pages))
    }

    /// The ids before the first page of a prompt, and those after each.
    pub(crate) fn prompt_parts(&self, task: &Task, pages: usize) -> Result<Vec<Vec<u32>>> {
        let text = full_text(task, pages, self)?;
        let mut parts = text.trim().split(IMAGE).map(|part| self.encode(part)).collect::<Result<Vec<_>>>()?;
        parts[0].insert(0, self.bos());
        Ok(parts)
    }

    /// The prompt of these parts with the pages between them.
    pub(crate) fn prompt_around(&self, parts: Vec<Vec<u32>>, pages: Vec<VisionTokens>) -> Prompt {
        let mut segments = Vec::with_capacity(2 * parts.len());
        let mut pages = pages.into_iter();
        for ids in parts {
            if !ids.is_empty() {
                segments.push(Segment::Text(ids));
            }
            segments.extend(pages.next().map(Segment::Vision));
        }
        Prompt { segments, vision_id: self.image() }
    }
}

/// The decoder's options, with tokens found by their text.
pub(crate) fn options(answer: &AnswerOptions, tokenizer: &Tokenizer) -> GenerateOptions {
    let no_repeat = match &answer.no_repeat {
        NoRepeat::Off => NoRepeatIds::Off,
        NoRepeat::Sequence { ngram } => NoRepeatIds::Sequence { ngram: *ngram },
        NoRepeat::Window { ngram, window, allowed } => NoRepeatIds::Window {
            ngram: *ngram,
            window: *window,
            allowed: allowed.iter().filter_map(|token| tokenizer.id(token)).collect(),
        },
    };
    GenerateOptions::new(tokenizer.eos())
        .with_sampling(answer.sampling)
        .with_no_repeat(no_repeat)
        .with_max_new_tokens(answer.max_new_tokens)
}

fn full_text(task: &Task, pages: usize, tokenizer: &Tokenizer) -> Result<String> {
    if let Task::Locate(what) = task
        && (what.trim().is_empty() || tokenizer.has_special(what))
    {
        return Err(Error::invalid_request("task", format!("{what:?}"), "a text to locate without special tokens"));
    }
    let text = task.prompt();
    let marks = text.matches(IMAGE).count();
    if marks == pages {
        return Ok(text);
    }
    // A prompt that names no place, or one, for several pages: they stand one after the other in that place.
    if marks == 1 {
        return Ok(text.replacen(IMAGE, &vec![IMAGE; pages].join("\n"), 1));
    }
    Err(Error::invalid_request(
        "prompt",
        format!("{marks} marks {IMAGE}"),
        format!("one, or {pages}, one for each page"),
    ))
}
