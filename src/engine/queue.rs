//! What the engine's thread and those who submit share: the queue, the places and the budget.

use super::WhenFull;
use crate::order::Order;
use deepseek_ocr_core::{Error, Result};
use deepseek_ocr_decoder::{Finish, Token};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::Sender,
    },
};

/// What a stream is told. Nobody may listen any more: that a message was not received is no error.
#[derive(Debug)]
pub(super) enum Event {
    Token(Token),
    End(Result<Finish>),
}

/// A request in the queue.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) order: Order,
    /// Blocks of cache that it needs at most.
    pub(super) blocks: usize,
    pub(super) events: Sender<Event>,
    pub(super) cancelled: Arc<AtomicBool>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: usize,
    pub(super) queue: usize,
    pub(super) blocks: usize,
}

#[derive(Debug)]
pub(super) struct Shared {
    limits: Limits,
    state: Mutex<State>,
    /// Something that somebody may wait for has changed.
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) submitting: usize,
    pub(super) waiting: usize,
    pub(super) running: usize,
    pub(super) steps: u64,
    /// Blocks of cache.
    pub(super) reserved: usize,
    pub(super) allocated: usize,
}

#[derive(Debug, Default)]
struct State {
    /// By their numbers, which is the order in which they came.
    queue: BTreeMap<u64, Job>,
    /// Who waits for a place in the queue.
    arriving: BTreeSet<u64>,
    next_id: u64,
    /// All but those who wait.
    counts: Counts,
    phase: Phase,
}

#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Open,
    Draining,
    Stopped,
}

/// A running request's place and part of the budget, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    blocks: usize,
}

impl Shared {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, state: Mutex::default(), changed: Condvar::new() }
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// Puts a job into the queue and gives its number; who waits for that is served in the order of arrival.
    pub(super) fn submit(&self, job: Job, when_full: WhenFull) -> Result<u64> {
        let mut state = self.lock();
        state.next_id += 1;
        let id = state.next_id;
        state.arriving.insert(id);
        let turn = |state: &State| state.queue.len() < self.limits.queue && state.arriving.first() == Some(&id);
        while state.phase == Phase::Open && when_full == WhenFull::Wait && !turn(&state) {
            state = self.wait(state);
        }
        let turn = turn(&state);
        state.arriving.remove(&id);
        // Whoever is next may have its turn now, too.
        self.changed.notify_all();
        if state.phase != Phase::Open {
            return Err(Error::EngineStopped);
        }
        if !turn {
            return Err(Error::QueueFull { limit: self.limits.queue });
        }
        state.queue.insert(id, job);
        Ok(id)
    }

    /// Waits for jobs that may start, or for none if some are running; at most `most` jobs. Nothing when the engine is to end.
    pub(super) fn next(self: &Arc<Self>, most: usize) -> Option<Vec<(Job, Slot)>> {
        let mut state = self.lock();
        loop {
            if state.phase == Phase::Stopped {
                return None;
            }
            let mut started = Vec::new();
            while started.len() < most
                && let Some(job) = self.admit(&mut state)
            {
                let slot = Slot { shared: Arc::clone(self), blocks: job.blocks };
                started.push((job, slot));
            }
            if state.counts.running > 0 {
                self.changed.notify_all();
                return Some(started);
            }
            if state.phase == Phase::Draining && state.queue.is_empty() {
                return None;
            }
            state = self.wait(state);
        }
    }

    /// The first of the queue, if there is a place and a part of the budget for it. Those behind it wait with it.
    fn admit(&self, state: &mut State) -> Option<Job> {
        let (_, Job { blocks, .. }) = state.queue.first_key_value()?;
        let blocks = *blocks;
        let room = self.limits.blocks - state.counts.reserved;
        if state.counts.running == self.limits.rows || blocks > room {
            return None;
        }
        state.counts.running += 1;
        state.counts.reserved += blocks;
        state.queue.pop_first().map(|(_, job)| job)
    }

    /// Takes a job out of the queue, if it is still there, and ends it.
    pub(super) fn withdraw(&self, id: u64) {
        let mut state = self.lock();
        if let Some(job) = state.queue.remove(&id) {
            self.changed.notify_all();
            drop(state);
            let _ = job.events.send(Event::End(Ok(Finish::Cancelled)));
        }
    }

    /// Notes what a step left.
    pub(super) fn stepped(&self, steps: u64, allocated: usize) {
        let counts = &mut self.lock().counts;
        (counts.steps, counts.allocated) = (steps, allocated);
    }

    pub(super) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts { submitting: state.arriving.len(), waiting: state.queue.len(), ..state.counts }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        let counts = self.counts();
        counts.waiting + counts.running == 0
    }

    /// Lets all jobs end and takes no more.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Open {
            state.phase = Phase::Draining;
            self.changed.notify_all();
        }
        while !state.queue.is_empty() || state.counts.running > 0 {
            state = self.wait(state);
        }
    }

    /// Ends what waits; the thread ends the rest when it comes back for more.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.phase = Phase::Stopped;
        let queue = std::mem::take(&mut state.queue);
        self.changed.notify_all();
        drop(state);
        for job in queue.into_values() {
            let _ = job.events.send(Event::End(Err(Error::EngineStopped)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.counts.running -= 1;
        state.counts.reserved -= self.blocks;
        self.shared.changed.notify_all();
    }
}
