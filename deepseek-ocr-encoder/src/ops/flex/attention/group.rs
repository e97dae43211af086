//! Some queries of a window on their walk over the keys.

use super::{BLOCK_PANELS, GROUP_QUERIES, Output, SCORES_STRIDE, Scratch, Sizes};
use crate::ops::flex::{
    field::{Part, Window},
    panels::{Pair, Tile, multiply, pack_line},
    simd::Product,
};
use deepseek_ocr_core::ops::flex::isa::Simd;
use std::{f32::consts::LOG2_E, ops::Range};

/// Queries with the sums they have gathered so far.
pub(super) struct Group<'a, S, P, const ROWS: usize> {
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
    pub(super) fn new(window: Window<'a>, queries: Range<usize>, sizes: Sizes, scratch: &'a mut Scratch) -> Self {
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

    /// Goes over all keys, block by block.
    ///
    /// # Safety
    /// The instruction set of `S` and `P` is available.
    #[inline(always)]
    pub(super) unsafe fn walk(&mut self) {
        // SAFETY: passed on to the caller.
        unsafe {
            self.offsets();
            for block in (0..self.sizes.panels).step_by(BLOCK_PANELS) {
                for tile in 0..self.tiles {
                    self.attend(tile, block..self.sizes.panels.min(block + BLOCK_PANELS));
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

    /// Writes the weighted means.
    ///
    /// # Safety
    /// As for [`walk`](Self::walk); nobody else touches the output of these queries.
    #[inline(always)]
    pub(super) unsafe fn put(&mut self, output: Output) {
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
