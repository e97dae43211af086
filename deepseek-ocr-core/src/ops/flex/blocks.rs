//! Products with matrices in blocks of 8 and 4 bits.
//!
//! Activations are rounded to 8 bits in blocks of 32 (`activations`); levels meet levels in products of whole numbers, whose exact sums
//! over a block are scaled and added up in f32 (`tiles`). One kernel serves any number of rows: a panel's levels stay in the
//! first cache while tiles of rows pass, and a row's sum is the same whatever stands beside it.

mod activations;
mod integers;
#[cfg(test)]
mod tests;
mod tiles;
#[cfg(target_arch = "x86_64")]
mod x86;

use self::{
    activations::{BLOCK_WORDS, Quantize},
    tiles::Strip,
};
use super::{Isa, scratch::Scratch};
use crate::quant::{BLOCK, BlockFormat, PANEL};
use half::f16;
use rayon::prelude::*;
use std::ops::Range;

/// A matrix in blocks, as [`quant`](crate::quant) describes it.
#[derive(Clone, Copy, Debug)]
pub struct Blocks<'a> {
    format: BlockFormat,
    levels: &'a [i32],
    scales: &'a [f16],
}

/// Levels that one task reads at least; less is not worth a task.
const STRIP_BYTES: usize = 64 << 10;
/// Tasks for each thread, so that a slow one does not hold up the rest.
const TASKS_PER_THREAD: usize = 4;
/// Rows of a band when there are too few panels for the threads; a band reads the panel's levels once more.
const MIN_BAND: usize = 48;
/// Rows whose levels are found by one task.
const ROWS_PER_TASK: usize = 8;
/// Levels of activations at a time: they should stay in the last cache, and no buffer may pass 32 MB.
const LEVELS_BYTES: usize = 8 << 20;

impl<'a> Blocks<'a> {
    /// # Panics
    /// If the lengths are not those of a matrix of whole blocks.
    pub fn new(format: BlockFormat, levels: &'a [i32], scales: &'a [f16]) -> Self {
        assert!(scales.len().is_multiple_of(PANEL), "each block of a panel has {PANEL} scales");
        assert_eq!(
            levels.len(),
            scales.len() * format.vectors(),
            "each scale has {} words of levels",
            format.vectors()
        );
        Self { format, levels, scales }
    }

    /// The number of weights.
    pub(super) fn len(&self) -> usize {
        self.scales.len() * BLOCK
    }

    /// Bytes that a product reads.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.levels) + size_of_val(self.scales)
    }

    /// The part of the matrix that gives the outputs in `range`.
    pub(super) fn rows(&self, range: Range<usize>, inputs: usize) -> Self {
        let whole = range.start.is_multiple_of(PANEL) && range.end.is_multiple_of(PANEL);
        assert!(whole, "outputs {range:?} are whole panels of {PANEL}");
        let scales = range.start * (inputs / BLOCK)..range.end * (inputs / BLOCK);
        let vectors = self.format.vectors();
        let levels = scales.start * vectors..scales.end * vectors;
        Self { format: self.format, levels: &self.levels[levels], scales: &self.scales[scales] }
    }
}

/// A product of rows with a matrix.
///
/// # Safety
/// The instruction set is available; `x` has whole rows of `inputs`, the matrix whole panels of them, the bias and each row of `y` as many
/// numbers as the matrix has outputs.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) isa: Isa,
    pub(super) x: &'a [f32],
    pub(super) inputs: usize,
    pub(super) blocks: Blocks<'a>,
    pub(super) bias: Option<&'a [f32]>,
}

impl Product<'_> {
    /// Over all threads of the current pool.
    pub(super) unsafe fn multiply(self, y: &mut [f32]) {
        let Self { x, inputs, blocks, .. } = self;
        let (outputs, words) = (blocks.len() / inputs, row_words(inputs));
        let rows = (LEVELS_BYTES / (words * size_of::<i32>())).max(1);
        for (x, y) in x.chunks(rows * inputs).zip(y.chunks_mut(rows * outputs)) {
            Scratch::Rows.with(x.len() / inputs * words, |levels| {
                // SAFETY: passed on to the caller.
                unsafe {
                    self.quantize(x, levels);
                    self.multiply_levels(levels, y);
                }
            });
        }
    }

    unsafe fn quantize(&self, x: &[f32], levels: &mut [u32]) {
        let (isa, inputs) = (self.isa, self.inputs);
        // SAFETY: the instruction set is available.
        let work = |(x, levels): (&[f32], &mut [u32])| unsafe { integers::run(isa, Quantize { x, levels }) };
        if x.len() <= ROWS_PER_TASK * inputs {
            work((x, levels));
        } else {
            let levels = levels.par_chunks_mut(ROWS_PER_TASK * row_words(inputs));
            x.par_chunks(ROWS_PER_TASK * inputs).zip(levels).for_each(work);
        }
    }

    unsafe fn multiply_levels(self, x: &[u32], y: &mut [f32]) {
        let Self { isa, inputs, blocks, bias, .. } = self;
        let (panels, words) = (blocks.len() / inputs / PANEL, row_words(inputs));
        let (stride, rows) = (panels * PANEL, x.len() / words);
        let grid = Grid::new(panels, blocks.bytes() / panels, rows);
        let output = Output(y.as_mut_ptr());
        let work = |task: usize| {
            let (panels, rows) = grid.task(task);
            let strip = Strip {
                x: &x[rows.start * words..rows.end * words],
                inputs,
                blocks: blocks.rows(panels.start * PANEL..panels.end * PANEL, inputs),
                bias: bias.map(|bias| &bias[panels.start * PANEL..panels.end * PANEL]),
                y: output.at(rows.start * stride + panels.start * PANEL),
                stride,
            };
            // SAFETY: the instruction set is available, tasks have rows and panels of their own.
            unsafe { integers::run(isa, strip) };
        };
        match grid.tasks() {
            1 => work(0),
            tasks => (0..tasks).into_par_iter().with_max_len(1).for_each(work),
        }
    }
}

/// Lays out rows of activations for [`dot`].
///
/// # Safety
/// The instruction set is available.
pub(super) unsafe fn prepare(isa: Isa, x: &[f32]) -> Vec<u32> {
    let mut levels = vec![0; row_words(x.len())];
    // SAFETY: passed on to the caller.
    unsafe { integers::run(isa, Quantize { x, levels: &mut levels }) };
    levels
}

/// A product on this thread.
///
/// # Safety
/// The instruction set is available, `x` was prepared from whole rows of `inputs`, the matrix has whole panels of them, and each row of
/// `y` as many numbers as the matrix has outputs.
pub(super) unsafe fn dot(isa: Isa, x: &[u32], blocks: Blocks<'_>, inputs: usize, y: &mut [f32]) {
    let stride = blocks.len() / inputs;
    let strip = Strip { x, inputs, blocks, bias: None, y: y.as_mut_ptr(), stride };
    // SAFETY: passed on to the caller.
    unsafe { integers::run(isa, strip) };
}

/// Words of a row of activations.
fn row_words(inputs: usize) -> usize {
    inputs / BLOCK * BLOCK_WORDS
}

/// A pointer into the output that tasks write to at disjoint places.
#[derive(Clone, Copy)]
struct Output(*mut f32);

// SAFETY: each task writes to columns and rows of its own.
unsafe impl Send for Output {}
// SAFETY: as above.
unsafe impl Sync for Output {}

impl Output {
    fn at(self, place: usize) -> *mut f32 {
        self.0.wrapping_add(place)
    }
}

/// Tasks of a product: strips of panels by bands of rows.
struct Grid {
    panels: usize,
    rows: usize,
    strips: usize,
    bands: usize,
}

impl Grid {
    fn new(panels: usize, panel_bytes: usize, rows: usize) -> Self {
        let wanted = match rayon::current_num_threads() {
            1 => 1,
            threads => threads * TASKS_PER_THREAD,
        };
        // With few rows a task is as long as its bytes; with many any panel is worth one.
        let fewest = if rows < MIN_BAND { STRIP_BYTES.div_ceil(panel_bytes) } else { 1 };
        let strips = wanted.min(panels.div_ceil(fewest)).max(1);
        let bands = wanted.div_ceil(strips).min(rows / MIN_BAND).max(1);
        Self { panels, rows, strips, bands }
    }

    fn tasks(&self) -> usize {
        self.strips * self.bands
    }

    fn task(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let part = |total: usize, at: usize, of: usize| at * total / of..(at + 1) * total / of;
        (part(self.panels, task / self.bands, self.strips), part(self.rows, task % self.bands, self.bands))
    }
}
