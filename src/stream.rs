//! An answer while it is written.

use crate::{DeepseekOcr, TextStream, Transcript};
use deepseek_ocr_core::Result;
use deepseek_ocr_decoder::Generation;

/// The text of an answer, piece by piece; an iterator of [`Result<String>`](Result).
///
/// No piece ends within a character, and the pieces joined are [`Transcript::text`]. Dropping the stream stops the work.
///
/// ```no_run
/// # use deepseek_ocr::{DeepseekOcr, Device, Page};
/// # let ocr = DeepseekOcr::from_dir("DeepSeek-OCR", &Device::flex())?;
/// let mut stream = ocr.stream(Page::open("invoice.png")?)?;
/// for piece in &mut stream {
///     print!("{}", piece?);
/// }
/// let transcript = stream.finish()?;
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Debug)]
pub struct TranscriptStream {
    model: DeepseekOcr,
    generation: Generation,
    pieces: TextStream,
    text: String,
    source: Source,
    failed: bool,
}

/// What an answer is about, for its [`Transcript`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub(crate) page_size: Option<(u32, u32)>,
    pub(crate) vision_tokens: usize,
    pub(crate) prompt_tokens: usize,
}

impl TranscriptStream {
    pub(crate) fn new(model: DeepseekOcr, generation: Generation, source: Source) -> Self {
        let pieces = model.tokenizer().stream();
        Self { model, generation, pieces, text: String::new(), source, failed: false }
    }

    /// Ends the answer here; [`finish`](Self::finish) then gives what was written, as [`Finish::Cancelled`](crate::Finish::Cancelled).
    pub fn cancel(&mut self) {
        self.generation.cancel(0);
    }

    /// Writes the answer to its end.
    ///
    /// # Errors
    /// As the iterator.
    pub fn finish(mut self) -> Result<Transcript> {
        for piece in &mut self {
            piece?;
        }
        Ok(Transcript::new(self.generation.leave(0), self.text, self.source))
    }

    /// The next piece; empty when the answer has ended.
    fn advance(&mut self) -> Result<String> {
        while !self.generation.is_finished() {
            let Self { model, generation, .. } = self;
            for token in model.threads().run(|| generation.advance(model.decoder()))? {
                let piece = self.pieces.push(token.id)?;
                if !piece.is_empty() {
                    return Ok(piece);
                }
            }
        }
        self.pieces.flush()
    }
}

impl Iterator for TranscriptStream {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.advance() {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => {
                self.text.push_str(&piece);
                Some(Ok(piece))
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
