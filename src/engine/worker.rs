//! The engine's thread: it lets requests join, steps the batch, and sends what each row got.

use super::queue::{Event, Job, Shared, Slot};
use crate::{
    DeepseekOcr,
    order::{Order, Prepared},
    threads::Threads,
};
use deepseek_ocr_core::{Error, Result};
use deepseek_ocr_decoder::{Finish, Generation, Outcome};
use std::{
    collections::{BTreeMap, HashMap},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::Sender,
    },
};

pub(super) struct Worker {
    model: DeepseekOcr,
    threads: Threads,
    shared: Arc<Shared>,
    pages_together: usize,
    generation: Generation,
    /// By their rows.
    running: BTreeMap<usize, Running>,
    steps: u64,
}

/// A request that has a row.
struct Running {
    events: Sender<Event>,
    cancelled: Arc<AtomicBool>,
    slot: Slot,
}

/// Lets nobody wait for a thread that is gone, whatever ended it.
struct Gone(Arc<Shared>);

impl Worker {
    pub(super) fn new(model: DeepseekOcr, threads: Threads, shared: Arc<Shared>, pages_together: usize) -> Self {
        let generation = empty(&model, &shared);
        Self { model, threads, shared, pages_together, generation, running: BTreeMap::new(), steps: 0 }
    }

    pub(super) fn run(mut self) {
        let _gone = Gone(Arc::clone(&self.shared));
        while self.turn() {}
        self.end_all(|| Error::EngineStopped);
    }

    /// Waits for something to do, and steps the batch once; false when the engine is to end.
    pub(super) fn turn(&mut self) -> bool {
        // First, so that a place that was given up is filled at once.
        self.cancel();
        let Some(jobs) = self.shared.next(self.pages_together) else { return false };
        self.start(jobs);
        self.step();
        true
    }

    /// Encodes the pages of new requests and lets them join.
    fn start(&mut self, jobs: Vec<(Job, Slot)>) {
        let (cancelled, jobs): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|(job, _)| job.is_cancelled());
        for (job, slot) in cancelled {
            end(&job.events, slot, Ok(Finish::Cancelled));
        }
        if jobs.is_empty() {
            return;
        }
        let (mut orders, mut claims) = (Vec::new(), Vec::new());
        for (job, slot) in jobs {
            orders.push(job.order);
            claims.push((job.events, job.cancelled, slot));
        }
        let joined = self.join(orders);
        for ((events, cancelled, slot), row) in claims.into_iter().zip(joined) {
            match row {
                Ok(row) => drop(self.running.insert(row, Running { events, cancelled, slot })),
                Err(error) => end(&events, slot, Err(error)),
            }
        }
    }

    /// A row, or an error, for each order.
    fn join(&mut self, orders: Vec<Order>) -> Vec<Result<usize>> {
        let Self { model, threads, generation, .. } = self;
        let count = orders.len();
        let prepared = match guarded(|| threads.run(|| model.prepare(orders))) {
            Ok(prepared) => prepared,
            Err(reason) => return (0..count).map(|_| Err(panicked(&reason))).collect(),
        };
        let join = |Prepared { prompt, options, .. }| {
            let join = || threads.run(|| generation.join(model.decoder(), &prompt, options));
            guarded(join).unwrap_or_else(|reason| Err(panicked(&reason)))
        };
        prepared.into_iter().map(join).collect()
    }

    fn cancel(&mut self) {
        for (row, _) in self.running.iter().filter(|(_, running)| running.cancelled.load(Relaxed)) {
            self.generation.cancel(*row);
        }
        self.dismiss(Vec::new());
    }

    fn step(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let Self { model, threads, generation, .. } = self;
        match guarded(|| threads.run(|| generation.advance_each(model.decoder()))) {
            Ok(outcomes) => {
                self.steps += 1;
                self.dismiss(outcomes);
            }
            Err(reason) => {
                tracing::error!(reason, rows = self.running.len(), "a step panicked");
                self.generation = empty(&self.model, &self.shared);
                self.end_all(|| panicked(&reason));
            }
        }
    }

    /// Sends what a step gave, and lets rows that ended go.
    fn dismiss(&mut self, outcomes: Vec<Outcome>) {
        let mut failures = HashMap::new();
        for Outcome { row, token } in outcomes {
            match token {
                Ok(Some(token)) => {
                    if let Some(running) = self.running.get(&row) {
                        let _ = running.events.send(Event::Token(token));
                    }
                }
                Ok(None) => (),
                Err(error) => drop(failures.insert(row, error)),
            }
        }
        let generation = &mut self.generation;
        let ended: Vec<_> = self.running.extract_if(.., |&row, _| generation.finish(row).is_some()).collect();
        let ended: Vec<_> =
            ended.into_iter().map(|(row, running)| (row, generation.leave(row).finish, running)).collect();
        self.shared.stepped(self.steps, generation.cache().allocated_blocks());
        for (row, finish, running) in ended {
            let result = failures.remove(&row).map_or(Ok(finish), Err);
            end(&running.events, running.slot, result);
        }
    }

    fn end_all(&mut self, error: impl Fn() -> Error) {
        self.shared.stepped(self.steps, 0);
        for running in std::mem::take(&mut self.running).into_values() {
            end(&running.events, running.slot, Err(error()));
        }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// A batch without rows, whose cache stays within the budget.
fn empty(model: &DeepseekOcr, shared: &Shared) -> Generation {
    Generation::empty(model.decoder()).with_most_blocks(shared.limits().blocks)
}

/// Ends a request: its place is free before it hears of it.
fn end(events: &Sender<Event>, slot: Slot, result: Result<Finish>) {
    drop(slot);
    let _ = events.send(Event::End(result));
}

/// What `work` gives, or what it said when it panicked.
fn guarded<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    // Whoever catches a panic puts nothing that it may have spoilt to use again.
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        text.unwrap_or("it does not say why").to_owned()
    })
}

fn panicked(reason: &str) -> Error {
    Error::EnginePanicked { reason: reason.to_owned() }
}
