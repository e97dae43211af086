//! One request's answer while the engine writes it.

use super::queue::{Event, Shared};
use crate::{TextStream, Transcript, stream::Source};
use deepseek_ocr_core::{Error, Result};
use deepseek_ocr_decoder::{Answer, Finish};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
    mpsc::Receiver,
};

/// The text of a request's answer, piece by piece; an iterator of [`Result<String>`](Result) that waits for the next piece.
///
/// As with [`TranscriptStream`](crate::TranscriptStream) no piece ends within a character, and the pieces joined are
/// [`Transcript::text`]. Dropping the stream takes its request out of the queue, or out of the batch after the step that is
/// under way. A stream that nobody reads does not hold the others up.
#[derive(Debug)]
pub struct EngineStream {
    ticket: Ticket,
    events: Receiver<Event>,
    pieces: TextStream,
    text: String,
    answer: Answer,
    source: Source,
    ended: bool,
}

/// Ends a request from any thread, while another one waits for the next piece of its [`EngineStream`].
///
/// A service that learns on one thread that a client has gone away, while another thread waits in the stream's iterator, has the
/// request leave the queue or the batch so. Dropping this does nothing.
///
/// ```no_run
/// # use deepseek_ocr::{DeepseekOcr, Device, Engine, EngineOptions, Finish, Page};
/// # let ocr = DeepseekOcr::from_dir("DeepSeek-OCR", &Device::flex())?;
/// # let engine = Engine::new(&ocr, EngineOptions::default())?;
/// let stream = engine.submit(Page::open("invoice.png")?)?;
/// let canceller = stream.canceller();
/// let reading = std::thread::spawn(move || stream.finish());
/// canceller.cancel();
/// # let _ = reading;
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EngineCanceller {
    pub(super) id: u64,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) shared: Arc<Shared>,
}

/// A request is withdrawn when it is dropped.
#[derive(Debug)]
pub(super) struct Ticket(pub(super) EngineCanceller);

impl EngineStream {
    pub(super) fn new(ticket: Ticket, events: Receiver<Event>, pieces: TextStream, source: Source) -> Self {
        let answer = Answer { ids: Vec::new(), probabilities: Vec::new(), finish: Finish::Failed };
        Self { ticket, events, pieces, text: String::new(), answer, source, ended: false }
    }

    /// Ends the answer here; [`finish`](Self::finish) then gives what was written, as
    /// [`Finish::Cancelled`](crate::Finish::Cancelled).
    pub fn cancel(&mut self) {
        self.ticket.0.cancel();
    }

    /// What [`cancel`](Self::cancel)s this stream from another thread.
    pub fn canceller(&self) -> EngineCanceller {
        self.ticket.0.clone()
    }

    /// Waits for the answer's end.
    ///
    /// # Errors
    /// As the iterator.
    pub fn finish(mut self) -> Result<Transcript> {
        for piece in &mut self {
            piece?;
        }
        Ok(Transcript::new(self.answer, self.text, self.source))
    }

    /// The next piece; empty when the answer has ended.
    fn advance(&mut self) -> Result<String> {
        while !self.ended {
            match self.events.recv() {
                Ok(Event::Token(token)) => {
                    self.answer.ids.push(token.id);
                    self.answer.probabilities.push(token.probability);
                    let piece = self.pieces.push(token.id)?;
                    if !piece.is_empty() {
                        return Ok(piece);
                    }
                }
                Ok(Event::End(finish)) => {
                    self.ended = true;
                    self.answer.finish = finish?;
                }
                Err(_) => {
                    self.ended = true;
                    return Err(Error::EngineStopped);
                }
            }
        }
        if self.answer.finish == Finish::Failed { Ok(String::new()) } else { self.pieces.flush() }
    }
}

impl Iterator for EngineStream {
    type Item = Result<String>;

    /// # Errors
    /// [`Error::NotFinite`] and [`Error::Execution`] if the model or the device fails, [`Error::EngineStopped`], and
    /// [`Error::EnginePanicked`]; the stream then ends.
    fn next(&mut self) -> Option<Self::Item> {
        match self.advance() {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => {
                self.text.push_str(&piece);
                Some(Ok(piece))
            }
            Err(error) => {
                self.ended = true;
                self.answer.finish = Finish::Failed;
                self.ticket.0.cancel();
                Some(Err(error))
            }
        }
    }
}

impl EngineCanceller {
    /// Ends the answer where it is, as [`Finish::Cancelled`](crate::Finish::Cancelled); nothing if it has ended.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
        self.shared.withdraw(self.id);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
