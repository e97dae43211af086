//! The threads that a model computes on.

use deepseek_ocr_core::{Error, Result};
use std::sync::Arc;

/// A pool of a model's own, or the caller's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Threads {
    /// # Errors
    /// [`Error::InvalidRequest`] for none, [`Error::Threads`] if the system refuses them.
    pub(crate) fn start(count: usize) -> Result<Self> {
        if count == 0 {
            return Err(Error::invalid_request("threads", count, "at least 1"));
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(|i| format!("deepseek-ocr-{i}"));
        let pool = pool.build().map_err(|source| Error::Threads { count, source: source.into() })?;
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// Runs work on the pool; whatever it divides stays there.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}
