//! Counts steps of work on this thread, so that tests can say how it grows without a clock.

use std::cell::Cell;

thread_local! {
    static DONE: Cell<usize> = const { Cell::new(0) };
}

pub(crate) fn add(steps: usize) {
    DONE.with(|done| done.set(done.get() + steps));
}

/// Steps that `work` takes.
pub(crate) fn of<T>(work: impl FnOnce() -> T) -> usize {
    let before = DONE.with(Cell::get);
    work();
    DONE.with(Cell::get) - before
}
