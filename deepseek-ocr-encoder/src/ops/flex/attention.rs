//! Softmax attention that never holds more scores than a tile: online softmax, with or without relative positions.
//!
//! A task is one head of one window, or some of its queries. It packs keys and values once and then goes over them in blocks
//! that stay in the second cache. Scores are in powers of two: the factor is in the packed queries.

mod group;
#[cfg(test)]
mod tests;

use super::{
    field::{Field, Part, Window},
    panels::{Buffer, pack_columns, pack_rows},
    simd::{self, Product, Work},
};
use deepseek_ocr_core::ops::{
    Precision,
    flex::{
        Isa,
        isa::{MAX_LANES, Simd},
    },
};
use group::Group;
use rayon::prelude::*;
use std::ops::Range;

/// Queries that share a walk over the keys: their sums stay in the second cache.
const GROUP_QUERIES: usize = 192;
/// Keys of a block in panels: 64 KiB of packed keys for heads of 64, and as many of values.
const BLOCK_PANELS: usize = 8;
/// Distance of two rows of scores: a block of the widest instruction set, and a cache line against aliasing.
const SCORES_STRIDE: usize = BLOCK_PANELS * 2 * MAX_LANES + 16;
/// Queries of a task at least: for fewer, packing the keys costs too much.
const TASK_QUERIES: usize = 256;
/// Tasks for each thread, so that a slow one does not hold up the rest.
const TASKS_PER_THREAD: usize = 4;

/// `softmax(q k^T / sqrt(head) + relative positions) v` for all windows, over all threads of the current pool.
///
/// # Shapes
/// - `output`: `[views, grid.rows, grid.columns, place.of, head]`, of which the field's heads are written
///
/// # Panics
/// If the lengths do not fit or the CPU lacks the instruction set.
pub(super) fn attend(isa: Isa, precision: Precision, field: &Field<'_>, output: &mut [f32]) {
    assert!(isa.is_available(), "{isa:?} is not available");
    field.check(output);
    let windows = field.windows();
    let parts = (rayon::current_num_threads() * TASKS_PER_THREAD).div_ceil(windows.max(1));
    let parts = parts.min(field.window.tokens() / TASK_QUERIES).max(1);
    let output = Output(output.as_mut_ptr());
    (0..windows * parts).into_par_iter().with_max_len(1).for_each_init(Scratch::default, |scratch, task| {
        let window = field.window(task / parts);
        let queries = window.inside().tokens();
        let part = task % parts;
        let queries = part * queries / parts..(part + 1) * queries / parts;
        // SAFETY: the instruction set is available, the lengths were checked, and tasks have queries of their own.
        unsafe { simd::run(isa, precision, Task { window, queries, output, scratch }) };
    });
}

/// A pointer into the output that tasks write to at disjoint places.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: each task writes to rows of its own.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

#[derive(Default)]
struct Scratch {
    keys: Buffer,
    values: Buffer,
    tables: [Buffer; 2],
    offsets: [Buffer; 2],
    queries: Buffer,
    sums: Buffer,
    shares: Buffer,
    scores: Buffer,
    across: Buffer,
}

/// # Safety
/// [`Field::check`] passed; nobody else touches the output of these queries.
struct Task<'a> {
    window: Window<'a>,
    queries: Range<usize>,
    output: Output,
    scratch: &'a mut Scratch,
}

/// Sizes of a task's packed matrices.
#[derive(Clone, Copy)]
struct Sizes {
    /// Columns of keys that one row of the window takes: whole vectors.
    padded: usize,
    /// Vectors of keys.
    vectors: usize,
    /// Panels of keys.
    panels: usize,
    /// Steps of a query with a key.
    steps: usize,
    /// Panels of a value.
    value_panels: usize,
    /// Columns of vertical and horizontal offsets.
    offsets: [usize; 2],
}

impl Sizes {
    fn new<S: Simd, P: Product>(field: &Field<'_>) -> Self {
        let width = 2 * S::LANES;
        let padded = field.window.columns.next_multiple_of(S::LANES);
        let vectors = field.window.rows * padded / S::LANES;
        Self {
            padded,
            vectors,
            panels: vectors.div_ceil(2),
            steps: field.head.div_ceil(P::PER_WORD),
            value_panels: field.head.div_ceil(width),
            offsets: [field.window.rows, field.window.columns].map(|side| (2 * side - 1).next_multiple_of(width)),
        }
    }
}

impl Work for Task<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd, P: Product, const ROWS: usize>(self) {
        let sizes = Sizes::new::<S, P>(self.window.field);
        self.scratch.pack::<S, P>(&self.window, sizes);
        let group = GROUP_QUERIES / ROWS * ROWS;
        for from in self.queries.clone().step_by(group) {
            let queries = from..self.queries.end.min(from + group);
            let (window, scratch) = (self.window, &mut *self.scratch);
            let mut group = Group::<S, P, ROWS>::new(window, queries, sizes, scratch);
            // SAFETY: passed on to the caller.
            unsafe {
                group.walk();
                group.put(self.output);
            }
        }
    }
}

impl Scratch {
    #[inline(always)]
    fn pack<S: Simd, P: Product>(&mut self, window: &Window<'_>, sizes: Sizes) {
        let width = 2 * S::LANES;
        let field = window.field;
        let extent = field.window;
        let key = |part| {
            move |column: usize| {
                let (row, column) = (column / sizes.padded, column % sizes.padded);
                (row < extent.rows && column < extent.columns).then(|| window.numbers(part, row, column))
            }
        };
        let columns = sizes.panels * width;
        let keys = self.keys.words(columns * sizes.steps);
        pack_columns::<S, P>(keys, field.head, 1.0, key(Part::Key));
        let values = self.values.words(columns / P::PER_WORD * sizes.value_panels * width);
        pack_rows::<S, P>(values, [columns, field.head], key(Part::Value));
        let Some(tables) = field.tables else { return };
        // Relative positions meet the query without the scale.
        let factor = (field.head as f32).sqrt();
        for ((buffer, table), columns) in self.tables.iter_mut().zip(tables).zip(sizes.offsets) {
            // From the last offset to the first: along keys offsets fall.
            let mut rows = table.chunks_exact(field.head).rev();
            let rows: Vec<&[f32]> = rows.by_ref().collect();
            let packed = buffer.words(columns * sizes.steps);
            pack_columns::<S, P>(packed, field.head, factor, |column| rows.get(column).copied());
        }
    }
}
