//! Dividing a product among threads.

use super::{
    dots::{Dots, Prepare},
    isa::{Isa, Simd, Work},
    product::Product,
    scratch::Scratch,
    tiles::{Block, PackTile, Tiling, panel_words, row_words},
};
use rayon::prelude::*;
use std::marker::PhantomData;

/// A product over all threads of the current pool.
///
/// # Safety
/// The instruction set is available; the lengths fit.
#[derive(Clone, Copy)]
pub(super) struct Gemm<'a, P: Product> {
    pub(super) isa: Isa,
    /// `[rows, inputs]`.
    pub(super) x: &'a [f32],
    pub(super) rows: usize,
    /// `[outputs, inputs]`.
    pub(super) weights: &'a [P::Weight],
    pub(super) inputs: usize,
    pub(super) bias: Option<&'a [f32]>,
}

/// Packed activations at a time: they should stay in the last cache, and no buffer may pass 32 MB.
const PACKED_ROWS_BYTES: usize = 16 << 20;
/// Packed weights of a task: half of the second cache of the CPUs that we care for (1 MiB and more).
const PACKED_PANELS_BYTES: usize = 512 << 10;
/// Weights that one task streams; less is not worth a task.
const STRIP_BYTES: usize = 128 << 10;
/// Tasks for each thread, so that a slow one does not hold up the rest.
const TASKS_PER_THREAD: usize = 4;
/// Rows of a task below which packing its weights anew costs more than a better balance brings.
const MIN_TASK_TILES: usize = 8;

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

impl<P: Product> Gemm<'_, P> {
    fn outputs(&self) -> usize {
        self.weights.len() / self.inputs
    }

    /// Few rows: strips of outputs.
    pub(super) unsafe fn stream(self, y: &mut [f32]) {
        let Self { isa, x, rows, weights, inputs, bias } = self;
        let outputs = self.outputs();
        // SAFETY: the instruction set is available.
        let x = unsafe { isa.run(Prepare::<P> { x, inputs, product: PhantomData }) };
        let output = Output(y.as_mut_ptr());
        let row_bytes = inputs * size_of::<P::Weight>();
        let balanced = outputs.div_ceil(rayon::current_num_threads() * TASKS_PER_THREAD);
        let strip = balanced.clamp(1, STRIP_BYTES.div_ceil(row_bytes)).next_multiple_of(MIN_STRIP);
        let work = |(task, weights)| {
            let (from, weights): (usize, &[P::Weight]) = (task * strip, weights);
            let y = output.at(from);
            // SAFETY: `x` was prepared for this, strips are disjoint.
            unsafe {
                isa.run(Dots::<P> { x: &x, rows, weights, inputs, y, stride: outputs });
                add_bias(bias, from, y, weights.len() / inputs, (rows, outputs));
            }
        };
        if outputs <= strip {
            work((0, weights));
        } else {
            weights.par_chunks(strip * inputs).enumerate().for_each(work);
        }
    }

    /// Many rows: tiles with panels.
    pub(super) unsafe fn multiply(self, y: &mut [f32]) {
        let Self { x, inputs, .. } = self;
        let outputs = self.outputs();
        let rows = (PACKED_ROWS_BYTES / (row_words::<P>(inputs) * size_of::<u32>())).max(MIN_ROWS);
        for (x, y) in x.chunks(rows * inputs).zip(y.chunks_mut(rows * outputs)) {
            let rows = x.len() / inputs;
            // SAFETY: passed on to the caller.
            unsafe { Self { x, rows, ..self }.multiply_rows(y) };
        }
    }

    unsafe fn multiply_rows(self, y: &mut [f32]) {
        let Self { isa, x, rows, inputs, .. } = self;
        // SAFETY: the instruction set is available.
        let (lanes, tile_rows) = unsafe { isa.run(Shape) };
        let tiling = Tiling::new(rows, tile_rows);
        Scratch::Rows.with(rows * row_words::<P>(inputs), |packed| {
            let mut tasks = Vec::with_capacity(tiling.tiles);
            let mut rest = &mut *packed;
            for tile in 0..tiling.tiles {
                let range = tiling.range(tile);
                let (to, after) = rest.split_at_mut(range.len() * row_words::<P>(inputs));
                rest = after;
                let x = &x[range.start * inputs..range.end * inputs];
                tasks.push(PackTile::<P> { x, inputs, to, product: PhantomData });
            }
            // SAFETY: the instruction set is available.
            tasks.into_par_iter().for_each(|task| unsafe { isa.run(task) });
            // SAFETY: passed on to the caller.
            unsafe { self.multiply_packed(packed, tiling, lanes, y) };
        });
    }

    unsafe fn multiply_packed(self, x: &[u32], tiling: Tiling, lanes: usize, y: &mut [f32]) {
        let Self { isa, weights, inputs, bias, .. } = self;
        let outputs = self.outputs();
        let output = Output(y.as_mut_ptr());
        let panel_words = panel_words::<P::Weight>(inputs, lanes);
        let grid = Grid::new(outputs.div_ceil(2 * lanes), panel_words * size_of::<u32>(), tiling.tiles);
        let columns = grid.panels_per_task * 2 * lanes;
        (0..grid.blocks * grid.bands).into_par_iter().with_max_len(1).for_each(|task| {
            let (block, band) = (task / grid.bands, task % grid.bands);
            let from = block * columns;
            let to = outputs.min(from + columns);
            Scratch::Panels.with((to - from).div_ceil(2 * lanes) * panel_words, |packed| {
                let block = Block::<P> {
                    x,
                    tiling,
                    tiles: band * tiling.tiles / grid.bands..(band + 1) * tiling.tiles / grid.bands,
                    weights: &weights[from * inputs..to * inputs],
                    inputs,
                    bias: bias.map(|bias| &bias[from..to]),
                    y: output.at(from),
                    stride: outputs,
                    packed,
                };
                // SAFETY: `x` was packed for this tiling, tasks have columns and rows of their own.
                unsafe { isa.run(block) };
            });
        });
    }
}

/// Strips end at whole groups of weight rows.
const MIN_STRIP: usize = 4;
/// Rows at a time however long they are.
const MIN_ROWS: usize = 96;

/// Tasks of a product: blocks of columns by bands of rows.
struct Grid {
    panels_per_task: usize,
    blocks: usize,
    bands: usize,
}

impl Grid {
    fn new(panels: usize, panel_bytes: usize, tiles: usize) -> Self {
        let wanted = match rayon::current_num_threads() {
            1 => 1,
            threads => threads * TASKS_PER_THREAD,
        };
        let fitting = (PACKED_PANELS_BYTES / panel_bytes).max(1);
        let panels_per_task = fitting.min(panels.div_ceil(wanted)).max(1);
        let blocks = panels.div_ceil(panels_per_task);
        let bands = wanted.div_ceil(blocks).min(tiles / MIN_TASK_TILES).max(1);
        Self { panels_per_task, blocks, bands }
    }
}

/// Lanes and tile rows of an instruction set.
struct Shape;

impl Work for Shape {
    type Output = (usize, usize);

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> (usize, usize) {
        (S::LANES, S::TILE_ROWS)
    }
}

/// Adds the bias to the columns `from..from + columns` of `rows` rows at `stride`; `y` points at the first.
unsafe fn add_bias(bias: Option<&[f32]>, from: usize, y: *mut f32, columns: usize, (rows, stride): (usize, usize)) {
    let Some(bias) = bias else { return };
    for row in 0..rows {
        for (column, bias) in bias[from..from + columns].iter().enumerate() {
            // SAFETY: passed on to the caller.
            unsafe { *y.add(row * stride + column) += bias };
        }
    }
}
