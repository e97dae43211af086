//! How much an engine takes on.

use deepseek_ocr_core::{Error, Result};

/// Rows that are stepped together at most: what the kernels are tried for.
const MAX_ROWS: usize = 256;

/// How much an [`Engine`](crate::Engine) takes on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Requests that run at the same time, 1 to 256. The default is 16.
    pub rows: usize,
    /// Requests that wait, at least 1; each holds the pixels of its views, 3 to 14 MB a page. The default is 64.
    pub queue: usize,
    /// What happens to a request where the queue is full. The default is [`WhenFull::Wait`].
    pub when_full: WhenFull,
    /// Bytes of cache at most. The default is no limit.
    pub cache_bytes: u64,
    /// Requests whose pages are encoded together, at least 1. The default is 1.
    pub pages_together: usize,
}

/// What happens to a request where the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// The submitting thread waits for its turn.
    #[default]
    Wait,
    /// The request is refused with [`Error::QueueFull`](crate::Error::QueueFull).
    Refuse,
}

impl EngineOptions {
    /// Runs so many requests at the same time.
    pub fn with_rows(self, rows: usize) -> Self {
        Self { rows, ..self }
    }

    /// Lets so many requests wait.
    pub fn with_queue(self, queue: usize) -> Self {
        Self { queue, ..self }
    }

    /// Treats requests so where the queue is full.
    pub fn with_when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }

    /// Holds at most so many bytes of cache. A request starts when what it may write at most fits beside what the running
    /// ones may.
    ///
    /// With the released model's sizes a position takes 123 kB: a page of 1000 tokens in mode Base 160 MB, one that may go
    /// on to the end of the context 1 GB, so that it pays to set
    /// [`Request::with_max_new_tokens`](crate::Request::with_max_new_tokens). Memory is taken when it is needed, 63 MB at a
    /// time, and given back when requests end.
    pub fn with_cache_bytes(self, cache_bytes: u64) -> Self {
        Self { cache_bytes, ..self }
    }

    /// Encodes the pages of up to so many waiting requests in one go, where there are places for them. It keeps a large
    /// device busy; on a CPU it only makes running requests wait longer. Vision tokens may differ from those of a page alone in
    /// their last bits.
    pub fn with_pages_together(self, pages_together: usize) -> Self {
        Self { pages_together, ..self }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let outside = |field, found: usize, expected: String| Err(Error::invalid_request(field, found, expected));
        match self {
            Self { rows, .. } if !(1..=MAX_ROWS).contains(rows) => outside("rows", *rows, format!("1 to {MAX_ROWS}")),
            Self { queue: 0, .. } => outside("queue", 0, "at least 1".into()),
            Self { pages_together: 0, .. } => outside("pages together", 0, "at least 1".into()),
            _ => Ok(()),
        }
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { rows: 16, queue: 64, when_full: WhenFull::default(), cache_bytes: u64::MAX, pages_together: 1 }
    }
}
