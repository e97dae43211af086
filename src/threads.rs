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
        Self::named("deepseek-ocr", count)
    }

    fn named(name: &'static str, count: usize) -> Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(move |i| format!("{name}-{i}"));
        let pool = pool.build().map_err(|source| Error::Threads { count, source: source.into() })?;
        Ok(Self { pool: Some(Arc::new(pool)) })
    }

    /// This pool; in place of the caller's a new one of as many threads, for work that the caller's threads may wait for.
    ///
    /// # Errors
    /// [`Error::Threads`].
    pub(crate) fn or_own(&self) -> Result<Self> {
        if self.pool.is_some() { Ok(self.clone()) } else { Self::named("ocr-engine", rayon::current_num_threads()) }
    }

    /// Runs work on the pool; whatever it divides stays there.
    pub(crate) fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}
