//! Buffers that a thread keeps: glibc maps and page-faults a large one anew each time it is allocated.

use std::cell::Cell;

/// One cache line; vectors never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LINE_WORDS]);

const LINE_WORDS: usize = 16;

thread_local! {
    static ROWS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static PANELS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Which buffer: a thread holds both at once.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scratch {
    /// Packed activations.
    Rows,
    /// Packed weights.
    Panels,
}

impl Scratch {
    /// Calls `f` with `words` words of unknown content.
    ///
    /// While one is in use a second call on the same thread, from a task that it stole, gets a buffer of its own.
    pub(super) fn with<R>(self, words: usize, f: impl FnOnce(&mut [u32]) -> R) -> R {
        let key = match self {
            Self::Rows => &ROWS,
            Self::Panels => &PANELS,
        };
        let mut lines = key.take();
        let needed = words.div_ceil(LINE_WORDS);
        if lines.len() < needed {
            lines.resize(needed, Line([0; LINE_WORDS]));
        }
        // SAFETY: lines are arrays of words without padding.
        let all = unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE_WORDS) };
        let result = f(&mut all[..words]);
        key.set(lines);
        result
    }
}
