//! Softmax attention that never holds more scores than a tile: online softmax, with or without relative positions.
//!
//! A task is one head of one window, or some of its queries. It packs keys and values once and then goes over them in blocks
//! that stay in the second cache. Scores are in powers of two: the factor is in the packed queries.

use super::{
    field::{Field, Part, Window},
    panels::{Buffer, Pair, Tile, multiply, pack_columns, pack_line, pack_rows},
    simd::{self, Product, Simd, Work},
};
use deepseek_ocr_core::ops::{Precision, flex::Isa};
use rayon::prelude::*;
use std::{f32::consts::LOG2_E, ops::Range};

/// Queries that share a walk over the keys: their sums stay in the second cache.
const GROUP_QUERIES: usize = 192;
/// Keys of a block in panels: 64 KiB of packed keys for heads of 64, and as many of values.
const BLOCK_PANELS: usize = 8;
/// Distance of two rows of scores: a block of the widest instruction set, and a cache line against aliasing.
const SCORES_STRIDE: usize = BLOCK_PANELS * 2 * simd::MAX_LANES + 16;
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
                group.offsets();
                for block in (0..sizes.panels).step_by(BLOCK_PANELS) {
                    for tile in 0..group.tiles {
                        group.attend(tile, block..sizes.panels.min(block + BLOCK_PANELS));
                    }
                }
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

/// Some queries of a window on their walk over the keys.
struct Group<'a, S, P, const ROWS: usize> {
    window: Window<'a>,
    queries: Range<usize>,
    tiles: usize,
    sizes: Sizes,
    keys: &'a [u32],
    values: &'a [u32],
    tables: [&'a [u32]; 2],
    /// Tile by tile, in a tile step by step.
    packed: &'a [u32],
    /// What offsets add, for each query: `[tiles * ROWS, sizes.offsets]`.
    offsets: [&'a mut [f32]; 2],
    /// What the horizontal offset adds for each query and column, minus infinity in columns that are no keys; one row for all
    /// queries without relative positions.
    across: &'a mut [f32],
    /// Weighted sums of values, `[tiles * ROWS, value_panels * 2 * LANES]`.
    sums: &'a mut [f32],
    /// Sums of weights by lane, `[tiles * ROWS, LANES]`.
    shares: &'a mut [f32],
    /// Largest score of each query.
    largest: [f32; GROUP_QUERIES],
    scores: &'a mut [f32],
    kind: std::marker::PhantomData<(S, P)>,
}

impl<'a, S: Simd, P: Product, const ROWS: usize> Group<'a, S, P, ROWS> {
    #[inline(always)]
    fn new(window: Window<'a>, queries: Range<usize>, sizes: Sizes, scratch: &'a mut Scratch) -> Self {
        let (field, width) = (window.field, 2 * S::LANES);
        let tiles = queries.len().div_ceil(ROWS);
        let rows = tiles * ROWS;
        let packed = scratch.queries.words(rows * sizes.steps);
        packed.fill(0);
        let factor = LOG2_E / (field.head as f32).sqrt();
        for (index, query) in queries.clone().enumerate() {
            let (row, column) = window.query(query);
            let to = &mut packed[index / ROWS * ROWS * sizes.steps + index % ROWS..];
            pack_line::<P>(to, ROWS, factor, window.numbers(Part::Query, row, column));
        }
        let sums = scratch.sums.numbers(rows * sizes.value_panels * width);
        sums.fill(0.0);
        let shares = scratch.shares.numbers(rows * S::LANES);
        shares.fill(0.0);
        let columns = sizes.panels * width;
        let [down, across] = &mut scratch.offsets;
        let [table_down, table_across] = &mut scratch.tables;
        let [down_columns, across_columns] = sizes.offsets;
        Self {
            keys: scratch.keys.words(columns * sizes.steps),
            values: scratch.values.words(columns / P::PER_WORD * sizes.value_panels * width),
            tables: [table_down.words(down_columns * sizes.steps), table_across.words(across_columns * sizes.steps)],
            packed,
            offsets: [down.numbers(rows * down_columns), across.numbers(rows * across_columns)],
            across: scratch.across.numbers(rows * (sizes.padded + S::LANES)),
            sums,
            shares,
            largest: [f32::NEG_INFINITY; GROUP_QUERIES],
            scores: scratch.scores.numbers(ROWS * SCORES_STRIDE),
            window,
            queries,
            tiles,
            sizes,
            kind: std::marker::PhantomData,
        }
    }

    fn tile(&self, tile: usize) -> Tile {
        let words = self.packed[tile * ROWS * self.sizes.steps..].as_ptr();
        Tile { words, row_stride: 1, step_stride: ROWS }
    }

    /// What relative positions add to the scores of these queries.
    #[inline(always)]
    unsafe fn offsets(&mut self) {
        let sizes = self.sizes;
        let (columns, stride) = (self.window.field.window.columns, sizes.padded + S::LANES);
        if self.window.field.tables.is_none() {
            self.across[..columns].fill(0.0);
            self.across[columns..stride].fill(f32::NEG_INFINITY);
            return;
        }
        for table in 0..2 {
            for tile in 0..self.tiles {
                // SAFETY: passed on to the caller.
                unsafe { self.offsets_of(tile, table) };
            }
        }
        for (index, query) in self.queries.clone().enumerate() {
            let from = index * sizes.offsets[1] + columns - 1 - self.window.query(query).1;
            let to = &mut self.across[index * stride..(index + 1) * stride];
            to[..columns].copy_from_slice(&self.offsets[1][from..from + columns]);
            to[columns..].fill(f32::NEG_INFINITY);
        }
    }

    #[inline(always)]
    unsafe fn offsets_of(&mut self, tile: usize, table: usize) {
        let (width, columns) = (2 * S::LANES, self.sizes.offsets[table]);
        let x = self.tile(tile);
        // SAFETY: the table was packed in panels for these steps; each row has room for all columns.
        unsafe {
            for from in (0..columns).step_by(width) {
                let mut acc: [Pair<S>; ROWS] = [[S::splat(0.0); 2]; ROWS];
                let w = self.tables[table][from * self.sizes.steps..].as_ptr();
                multiply::<S, P, ROWS>(&mut acc, x, w, self.sizes.steps);
                for (row, [first, second]) in acc.into_iter().enumerate() {
                    let to = self.offsets[table][(tile * ROWS + row) * columns + from..].as_mut_ptr();
                    S::store(to, first);
                    S::store(to.add(S::LANES), second);
                }
            }
        }
    }

    /// Brings the keys and values of some panels into the sums of one tile.
    #[inline(always)]
    unsafe fn attend(&mut self, tile: usize, panels: Range<usize>) {
        // SAFETY: passed on to the caller.
        unsafe {
            self.score(tile, panels.clone());
            let scales = self.weigh(tile, panels.len());
            self.add_values(tile, panels, scales);
        }
    }

    #[inline(always)]
    unsafe fn score(&mut self, tile: usize, panels: Range<usize>) {
        let (x, sizes) = (self.tile(tile), self.sizes);
        let (down, across) = self.rows_of_offsets(tile);
        let per_row = sizes.padded / S::LANES;
        // SAFETY: keys were packed for these steps; a vector of keys lies in one row of the window, where offsets are in order.
        unsafe {
            for (at, panel) in panels.enumerate() {
                let mut acc: [Pair<S>; ROWS] = [[S::splat(0.0); 2]; ROWS];
                let w = self.keys[panel * 2 * S::LANES * sizes.steps..].as_ptr();
                multiply::<S, P, ROWS>(&mut acc, x, w, sizes.steps);
                let places = [2 * panel, 2 * panel + 1].map(|vector| match vector < sizes.vectors {
                    true => (vector / per_row, vector % per_row * S::LANES),
                    // Beyond the last row's vectors is one of minus infinity.
                    false => (0, sizes.padded),
                });
                for (row, acc) in acc.into_iter().enumerate() {
                    let to = self.scores.as_mut_ptr().add(row * SCORES_STRIDE + at * 2 * S::LANES);
                    for (half, (key_row, key_column)) in places.into_iter().enumerate() {
                        let offset = S::add(S::splat(*down[row].add(key_row)), S::load(across[row].add(key_column)));
                        S::store(to.add(half * S::LANES), S::add(acc[half], offset));
                    }
                }
            }
        }
    }

    /// Where the vertical terms begin for each query, and the horizontal ones.
    #[inline(always)]
    fn rows_of_offsets(&self, tile: usize) -> ([*const f32; ROWS], [*const f32; ROWS]) {
        let field = self.window.field;
        if field.tables.is_none() {
            // One row of keys: a plain zero is its vertical term.
            return ([ZERO.as_ptr(); ROWS], [self.across.as_ptr(); ROWS]);
        }
        let down = std::array::from_fn(|row| {
            let index = tile * ROWS + row;
            // Rows that fill up the last tile repeat the last query's place.
            let query = self.window.query((self.queries.start + index).min(self.queries.end - 1));
            self.offsets[0][index * self.sizes.offsets[0] + field.window.rows - 1 - query.0..].as_ptr()
        });
        let stride = self.sizes.padded + S::LANES;
        (down, std::array::from_fn(|row| self.across[(tile * ROWS + row) * stride..].as_ptr()))
    }

    /// Turns scores into weights, in place; what remains of earlier sums.
    #[inline(always)]
    unsafe fn weigh(&mut self, tile: usize, panels: usize) -> [S::Vector; ROWS] {
        // SAFETY: each row of scores has that many panels; words are written behind the scores that are read.
        unsafe {
            let mut scales = [S::splat(0.0); ROWS];
            for (row, scale) in scales.iter_mut().enumerate() {
                let index = tile * ROWS + row;
                let scores = self.scores.as_mut_ptr().add(row * SCORES_STRIDE);
                let mut largest = S::splat(self.largest[index]);
                for vector in 0..2 * panels {
                    largest = S::max(largest, S::load(scores.add(vector * S::LANES)));
                }
                let new = S::largest(largest);
                *scale = S::exp2(S::splat(self.largest[index] - new));
                self.largest[index] = new;
                let (new, shares) = (S::splat(new), self.shares.as_mut_ptr().add(index * S::LANES));
                let mut share = S::mul(S::load(shares), *scale);
                for panel in 0..panels {
                    let from = scores.add(panel * 2 * S::LANES);
                    let first = S::exp2(S::sub(S::load(from), new));
                    let second = S::exp2(S::sub(S::load(from.add(S::LANES)), new));
                    share = S::add(share, S::add(first, second));
                    P::store::<S>(scores.cast::<u32>().add(panel * 2 * S::LANES / P::PER_WORD), first, second);
                }
                S::store(shares, share);
            }
            scales
        }
    }

    #[inline(always)]
    unsafe fn add_values(&mut self, tile: usize, panels: Range<usize>, scales: [S::Vector; ROWS]) {
        let (width, sizes) = (2 * S::LANES, self.sizes);
        let x = Tile { words: self.scores.as_ptr().cast(), row_stride: SCORES_STRIDE, step_stride: 1 };
        let steps_per_panel = width / P::PER_WORD;
        // SAFETY: values were packed in panels of as many steps as there are keys; sums have whole panels.
        unsafe {
            for panel in 0..sizes.value_panels {
                let row = |row: usize| ((tile * ROWS + row) * sizes.value_panels + panel) * width;
                let mut acc: [Pair<S>; ROWS] = std::array::from_fn(|at| {
                    let from = self.sums.as_ptr().add(row(at));
                    [S::mul(S::load(from), scales[at]), S::mul(S::load(from.add(S::LANES)), scales[at])]
                });
                let step = panel * sizes.panels * steps_per_panel + panels.start * steps_per_panel;
                let w = self.values[step * width..].as_ptr();
                multiply::<S, P, ROWS>(&mut acc, x, w, panels.len() * steps_per_panel);
                for (at, [first, second]) in acc.into_iter().enumerate() {
                    let to = self.sums.as_mut_ptr().add(row(at));
                    S::store(to, first);
                    S::store(to.add(S::LANES), second);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn put(&mut self, output: Output) {
        let length = self.sizes.value_panels * 2 * S::LANES;
        for (index, query) in self.queries.clone().enumerate() {
            let range = self.window.output(query);
            // SAFETY: a row of the output that is this task's; the sum's row is at least as long.
            unsafe {
                let share = S::sum(S::load(self.shares[index * S::LANES..].as_ptr()));
                let to = std::slice::from_raw_parts_mut(output.0.add(range.start), range.len());
                for (to, sum) in to.iter_mut().zip(&self.sums[index * length..]) {
                    *to = sum / share;
                }
            }
        }
    }
}

static ZERO: [f32; 1] = [0.0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{generated, ops::flex::field::Extent, ops::reference};
    use burn::tensor::Tensor;

    #[derive(Debug)]
    struct Case {
        views: usize,
        grid: usize,
        side: usize,
        heads: usize,
        head: usize,
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("f32")
    }

    /// Every kernel that this CPU runs, with what it may be off: sums of f32 with weights of one in all, or values and scores
    /// that were rounded to 8 bits.
    fn kernels() -> impl Iterator<Item = (Isa, Precision, f32)> {
        let exact = Isa::ALL.into_iter().map(|isa| (isa, Precision::Exact, 1e-5));
        let all = exact.chain([(Isa::Avx512Bf16, Precision::Bf16, 3e-2)]);
        all.filter(|(isa, ..)| isa.is_available())
    }

    fn compare(field: &Field<'_>, expected: &[f32], case: &Case) {
        for (isa, precision, tolerance) in kernels() {
            let mut output = vec![f32::NAN; expected.len()];
            attend(isa, precision, field, &mut output);
            let errors = output.iter().zip(expected).map(|(y, expected)| (y - expected).abs());
            // `max` of f32 passes over NaN.
            let worst = errors.fold(0f32, |worst, error| if error <= worst { worst } else { error });
            assert!(worst <= tolerance, "{isa:?} {precision:?} {case:?}: {worst}");
        }
    }

    fn check(case: &Case) {
        let &Case { views, grid, side, heads, head } = case;
        let parts = 3 * heads * head;
        let qkv = generated::tensor([views, grid, grid, parts]);
        let overhang = generated::tensor([2, parts]).slice([1..2, 0..parts]).reshape([parts]);
        let tables: [_; 2] = std::array::from_fn(|i| {
            let rows = 2 * side - 1;
            generated::tensor([(i + 1) * rows, head]).slice([i * rows..(i + 1) * rows, 0..head])
        });
        let expected = numbers(reference::window_attention(qkv.clone(), overhang.clone(), tables.clone()));
        let (qkv, overhang, tables) = (numbers(qkv), numbers(overhang), tables.map(numbers));
        let width = heads * head;
        let field = Field {
            overhang: [0, 1, 2].map(|part| &overhang[part * width..][..width]),
            grid: Extent { rows: grid, columns: grid },
            window: Extent { rows: side, columns: side },
            tables: Some(tables.each_ref().map(Vec::as_slice)),
            ..Field::line(&qkv, [views, grid * grid, heads, head])
        };
        compare(&field, &expected, case);
    }

    fn check_plain(views: usize, tokens: usize, heads: usize, head: usize) {
        let qkv = generated::tensor([views, tokens, 3 * heads * head]);
        let expected = numbers(reference::attention(qkv.clone(), heads));
        let qkv = numbers(qkv);
        let field = Field::line(&qkv, [views, tokens, heads, head]);
        compare(&field, &expected, &Case { views, grid: tokens, side: 0, heads, head });
    }

    #[test]
    fn windows_of_every_side() {
        for side in 1..=20 {
            check(&Case { views: 2, grid: side, side, heads: 2, head: 16 });
        }
    }

    #[test]
    fn windows_that_overhang() {
        for (grid, side) in [(1, 2), (3, 14), (5, 2), (15, 14), (20, 7), (30, 16)] {
            check(&Case { views: 2, grid, side, heads: 3, head: 8 });
        }
    }

    #[test]
    fn heads_of_any_width() {
        for head in [1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 65, 80] {
            check(&Case { views: 1, grid: 9, side: 5, heads: 2, head });
            check_plain(2, 21, 2, head);
        }
    }

    #[test]
    fn several_blocks_groups_and_tasks() {
        check(&Case { views: 1, grid: 33, side: 33, heads: 1, head: 24 });
        check(&Case { views: 1, grid: 40, side: 40, heads: 1, head: 64 });
        check_plain(1, 700, 1, 32);
    }

    #[test]
    fn lines_of_any_length() {
        for tokens in [1, 2, 15, 16, 17, 65, 101, 257, 258] {
            check_plain(2, tokens, 2, 16);
        }
    }

    #[test]
    fn large_scores_do_not_overflow() {
        let (tokens, head) = (40, 16);
        let qkv = generated::tensor([1, tokens, 3 * head]);
        let scales = (0..3 * head).map(|at| if at < 2 * head { 100.0 } else { 1.0 }).collect::<Vec<f32>>();
        let scaled: Vec<f32> = numbers(qkv).iter().zip(scales.iter().cycle()).map(|(x, scale)| x * scale).collect();
        let field = Field::line(&scaled, [1, tokens, 1, head]);
        for (isa, precision, _) in kernels() {
            let mut output = vec![f32::NAN; tokens * head];
            attend(isa, precision, &field, &mut output);
            assert!(output.iter().all(|y| y.abs() <= 1.0), "{isa:?} {precision:?}");
        }
    }
}
