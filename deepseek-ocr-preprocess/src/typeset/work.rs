//! Counts steps, so that tests see how work grows with the text.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Adds steps of this thread; nothing outside tests.
#[inline]
pub(crate) fn count(steps: usize) {
    #[cfg(test)]
    STEPS.with(|count| count.set(count.get() + steps as u64));
    #[cfg(not(test))]
    let _ = steps;
}

/// The steps of this thread while something is done.
#[cfg(test)]
pub(crate) fn of(done: impl FnOnce()) -> u64 {
    let before = STEPS.with(std::cell::Cell::get);
    done();
    STEPS.with(std::cell::Cell::get) - before
}
