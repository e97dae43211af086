//! Many requests at once: one batch of running rows that requests join and leave, behind a queue.

mod options;
mod queue;
mod stream;
mod worker;

pub use options::{EngineOptions, WhenFull};
pub use stream::{EngineCanceller, EngineStream};

use crate::{DeepseekOcr, Request, Transcript, threads::Threads};
use deepseek_ocr_core::{Error, Result};
use deepseek_ocr_decoder::Cache;
use queue::{Job, Limits, Shared};
use std::{
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool, mpsc},
    thread::JoinHandle,
};
use stream::Ticket;
use worker::Worker;

/// Reads the requests of many threads together.
///
/// One thread of its own steps all running rows at once; a request that ends frees its place, and the next one's page is
/// encoded and its prompt read between two steps. Requests start in the order in which they were submitted. Each gets, token
/// for token, what [`DeepseekOcr::generate`] gives it alone.
///
/// A handle: clones share the engine, and any number of threads may submit. When the last clone is dropped the engine stops
/// after the step that it is in, and requests that have not ended get [`Error::EngineStopped`]; [`drain`](Self::drain) before
/// that lets them end.
///
/// ```no_run
/// # use deepseek_ocr::{DeepseekOcr, Device, Engine, EngineOptions, Page};
/// # let ocr = DeepseekOcr::from_dir("DeepSeek-OCR", &Device::flex())?;
/// let engine = Engine::new(&ocr, EngineOptions::default().with_rows(32).with_cache_bytes(8 << 30))?;
/// let first = engine.submit(Page::open("first.png")?)?;
/// let second = engine.submit(Page::open("second.png")?)?;
/// for piece in first {
///     print!("{}", piece?);
/// }
/// println!("{}", second.finish()?.markdown());
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Engine {
    door: Door,
    handle: Arc<Handle>,
}

/// What an engine has at hand: for a service's metrics and its health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Load {
    /// Threads that wait to put a request into the queue.
    pub submitting: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Requests that have a place in the batch.
    pub running: usize,
    /// Steps of the batch since the engine began.
    pub steps: u64,
    /// Bytes of cache that the running requests need if each writes as much as it may.
    pub reserved_bytes: u64,
    /// Bytes of cache that memory is held for.
    pub allocated_bytes: u64,
}

/// Where requests come in.
#[derive(Debug, Clone)]
struct Door {
    model: DeepseekOcr,
    shared: Arc<Shared>,
    options: EngineOptions,
}

/// Stops the thread with the last clone.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Starts an engine for a model, which stays usable beside it.
    ///
    /// It computes on the model's own threads ([`Loader::with_threads`](crate::Loader::with_threads)), or else on as many of
    /// its own as the [rayon](https://docs.rs/rayon) pool of the caller has, so that threads of that pool may wait for it.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] for options out of range, [`Error::Threads`] if the system gives no thread.
    pub fn new(model: &DeepseekOcr, options: EngineOptions) -> Result<Self> {
        options.validate()?;
        let (door, worker) = Door::open(model, options, model.threads().or_own()?);
        let thread = std::thread::Builder::new().name("deepseek-ocr-engine".into()).spawn(|| worker.run());
        let thread = thread.map_err(|source| Error::Threads { count: 1, source: source.into() })?;
        let handle = Handle { shared: Arc::clone(&door.shared), thread: Mutex::new(Some(thread)) };
        Ok(Self { door, handle: Arc::new(handle) })
    }

    /// Hands in a request. Its pages are cut into views on the calling thread; everything else is the engine's.
    ///
    /// Where the queue is full this waits, or gives an error, as [`EngineOptions::with_when_full`] says.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] and [`Error::PromptTooLong`]; [`Error::CacheBudget`] for a request that cannot run within the
    /// budget even alone; [`Error::QueueFull`]; [`Error::EngineStopped`] after [`drain`](Self::drain).
    pub fn submit(&self, request: impl Into<Request>) -> Result<EngineStream> {
        self.door.submit(request.into())
    }

    /// Takes no more requests and waits until all that were submitted have ended.
    pub fn drain(&self) {
        self.handle.shared.drain();
    }

    /// What the engine has at hand now.
    pub fn load(&self) -> Load {
        let counts = self.handle.shared.counts();
        let bytes = |blocks: usize| blocks as u64 * Cache::block_bytes(self.door.model.decoder().config());
        Load {
            submitting: counts.submitting,
            waiting: counts.waiting,
            running: counts.running,
            steps: counts.steps,
            reserved_bytes: bytes(counts.reserved),
            allocated_bytes: bytes(counts.allocated),
        }
    }
}

/// Reads requests to their ends on the calling thread, so many rows at a time.
pub(crate) fn read_all(
    model: &DeepseekOcr,
    requests: impl Iterator<Item = Request>,
    rows: usize,
) -> Vec<Result<Transcript>> {
    let (door, mut worker) =
        Door::open(model, EngineOptions::default().with_rows(rows).with_queue(1), model.threads().clone());
    let (mut requests, mut streams) = (requests.fuse(), Vec::new());
    loop {
        // With a queue of one a request is taken from the iterator when it can join.
        while door.shared.counts().waiting == 0
            && let Some(request) = requests.next()
        {
            streams.push(door.submit(request));
        }
        if door.shared.is_idle() {
            return streams.into_iter().map(|stream| stream?.finish()).collect();
        }
        worker.turn();
    }
}

impl Door {
    fn open(model: &DeepseekOcr, options: EngineOptions, threads: Threads) -> (Self, Worker) {
        let blocks = Cache::blocks_within(model.decoder().config(), options.cache_bytes);
        let shared = Arc::new(Shared::new(Limits { rows: options.rows, queue: options.queue, blocks }));
        let worker = Worker::new(model.clone(), threads, Arc::clone(&shared), options.pages_together);
        (Self { model: model.clone(), shared, options }, worker)
    }

    fn submit(&self, request: Request) -> Result<EngineStream> {
        let order = self.model.order(request)?;
        let config = self.model.decoder().config();
        let blocks = Cache::blocks_for(order.most_positions(config.context));
        if blocks > self.shared.limits().blocks {
            let needed = blocks as u64 * Cache::block_bytes(config);
            return Err(Error::CacheBudget { needed, budget: self.options.cache_bytes });
        }
        let (source, cancelled) = (order.source(), Arc::new(AtomicBool::new(false)));
        let (events, receiver) = mpsc::channel();
        let job = Job { order, blocks, events, cancelled: Arc::clone(&cancelled) };
        let id = self.shared.submit(job, self.options.when_full)?;
        let ticket = Ticket(EngineCanceller { id, cancelled, shared: Arc::clone(&self.shared) });
        Ok(EngineStream::new(ticket, receiver, self.model.tokenizer().stream(), source))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
        let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() else { return };
        if thread.join().is_err() {
            tracing::error!("the engine's thread panicked");
        }
    }
}

#[cfg(all(test, feature = "mini"))]
mod tests;
