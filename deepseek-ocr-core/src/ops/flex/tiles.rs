//! Many rows: panels of weights and tiles of activations, each packed in the order in which registers want them.
//!
//! A panel is `2 * LANES` columns; a tile is up to `TILE_ROWS` rows. Their product stays in registers over all inputs.

use super::{
    isa::{MAX_LANES, Simd, Stride, Work},
    product::{Pair, Product},
    stored::Stored,
};
use std::{marker::PhantomData, ops::Range};

/// The most rows of any instruction set's tile.
const MAX_TILE_ROWS: usize = 12;

/// How rows are divided into tiles of nearly equal height: twelve rows and one would cost two tiles of twelve.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    pub(super) rows: usize,
    pub(super) tiles: usize,
}

/// Packs one tile of activations.
pub(super) struct PackTile<'a, P> {
    /// Whole rows.
    pub(super) x: &'a [f32],
    pub(super) inputs: usize,
    pub(super) to: &'a mut [u32],
    pub(super) product: PhantomData<P>,
}

/// Some tiles of rows with a block of columns, on one thread.
///
/// # Safety
/// `x` holds the packed tiles of `tiling`; `packed` holds [`panel_words`] for each panel; each row of `y` at `stride` has room for
/// as many outputs as there are rows of weights, and nobody else touches them.
pub(super) struct Block<'a, P: Product> {
    pub(super) x: &'a [u32],
    pub(super) tiling: Tiling,
    pub(super) tiles: Range<usize>,
    /// Whole rows.
    pub(super) weights: &'a [P::Weight],
    pub(super) inputs: usize,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) y: *mut f32,
    pub(super) stride: usize,
    /// Room for the packed panels.
    pub(super) packed: &'a mut [u32],
}

impl Tiling {
    pub(super) fn new(rows: usize, tile_rows: usize) -> Self {
        Self { rows, tiles: rows.div_ceil(tile_rows) }
    }

    pub(super) fn range(&self, tile: usize) -> Range<usize> {
        tile * self.rows / self.tiles..(tile + 1) * self.rows / self.tiles
    }
}

/// Words of a packed panel.
pub(super) fn panel_words<T: Stored>(inputs: usize, lanes: usize) -> usize {
    inputs.div_ceil(2) * T::STEP_WORDS * 2 * lanes
}

/// Words of a packed row of activations.
pub(super) fn row_words<P: Product>(inputs: usize) -> usize {
    inputs.div_ceil(2) * P::STEP_WORDS
}

impl<P: Product> Work for PackTile<'_, P> {
    type Output = ();

    /// Step by step, in a step number by number, then row by row.
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let per_word = 2 / P::STEP_WORDS;
        let words = row_words::<P>(self.inputs);
        let whole = self.inputs / per_word;
        let blocks = whole / S::LANES * S::LANES;
        for at in (0..blocks).step_by(S::LANES) {
            // SAFETY: a block of words of each row, and their places.
            unsafe { self.pack_block::<S>(at) };
        }
        let rows = self.x.len() / self.inputs;
        for (row, x) in self.x.chunks_exact(self.inputs).enumerate() {
            for at in blocks..whole {
                self.to[at * rows + row] = P::word(&x[at * per_word..(at + 1) * per_word]);
            }
            for at in whole..words {
                self.to[at * rows + row] = P::word(&x[(at * per_word).min(self.inputs)..]);
            }
        }
    }
}

impl<P: Product> PackTile<'_, P> {
    /// Packs the words `at..at + LANES` of all rows.
    ///
    /// # Safety
    /// The instruction set, and that many words in each row.
    #[inline(always)]
    unsafe fn pack_block<S: Simd>(&mut self, at: usize) {
        let (inputs, rows, from) = (self.inputs, self.x.len() / self.inputs, at * (2 / P::STEP_WORDS));
        let mut block = [0; MAX_LANES * MAX_LANES];
        let mut columns = [0; MAX_LANES * MAX_LANES];
        for first in (0..rows).step_by(S::LANES) {
            let group = S::LANES.min(rows - first);
            // SAFETY: both buffers have room for a block.
            unsafe {
                for row in 0..group {
                    let x = self.x[(first + row) * inputs + from..].as_ptr();
                    P::words::<S>(x, block.as_mut_ptr().add(row * S::LANES));
                }
                S::transpose(block.as_ptr(), Stride(S::LANES * size_of::<u32>()), columns.as_mut_ptr(), S::LANES);
            }
            for (column, words) in columns.chunks_exact(S::LANES).take(S::LANES).enumerate() {
                let to = &mut self.to[(at + column) * rows + first..];
                // Whole vectors are quicker than their parts: what is too much lies where the next column goes.
                if rows <= S::LANES && to.len() >= S::LANES {
                    to[..S::LANES].copy_from_slice(words);
                } else {
                    to[..group].copy_from_slice(&words[..group]);
                }
            }
        }
    }
}

impl<P: Product> Work for Block<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let width = 2 * S::LANES;
        let panel_words = panel_words::<P::Weight>(self.inputs, S::LANES);
        let columns = self.weights.len() / self.inputs;
        let panels = self.weights.chunks(width * self.inputs).zip(self.packed.chunks_exact_mut(panel_words));
        // SAFETY: each panel has its room; tiles and panels stay within what the caller vouches for.
        unsafe {
            for (weights, packed) in panels {
                pack_panel::<S, P::Weight>(weights, self.inputs, packed);
            }
            for tile in self.tiles {
                let rows = self.tiling.range(tile);
                let x = self.x[rows.start * row_words::<P>(self.inputs)..].as_ptr();
                for (panel, from) in (0..columns).step_by(width).enumerate() {
                    let tile = Tile {
                        x,
                        w: self.packed[panel * panel_words..].as_ptr(),
                        steps: self.inputs.div_ceil(2),
                        bias: self.bias.map(|bias| &bias[from..columns.min(from + width)]),
                        y: self.y.add(rows.start * self.stride + from),
                        stride: self.stride,
                        columns: width.min(columns - from),
                        product: PhantomData::<P>,
                    };
                    tile.run::<S>(rows.len());
                }
            }
        }
    }
}

/// A tile of rows with a panel.
struct Tile<'a, P> {
    x: *const u32,
    w: *const u32,
    steps: usize,
    bias: Option<&'a [f32]>,
    y: *mut f32,
    stride: usize,
    columns: usize,
    product: PhantomData<P>,
}

impl<P: Product> Tile<'_, P> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self, rows: usize) {
        macro_rules! of_height {
            ($($rows:literal)*) => {
                match rows {
                    // Heights beyond the instruction set's tile are not even compiled.
                    // SAFETY: passed on to the caller.
                    $($rows if $rows <= S::TILE_ROWS => unsafe { self.multiply::<S, $rows>() },)*
                    _ => unreachable!("tiles have 1 to {} rows, not {rows}", S::TILE_ROWS),
                }
            };
        }
        const { assert!(S::TILE_ROWS <= MAX_TILE_ROWS) };
        of_height!(1 2 3 4 5 6 7 8 9 10 11 12)
    }

    #[inline(always)]
    unsafe fn multiply<S: Simd, const ROWS: usize>(self) {
        // SAFETY: passed on to the caller.
        unsafe {
            let mut acc: [Pair<S>; ROWS] = [[S::zero(); 2]; ROWS];
            let (mut x, mut w) = (self.x, self.w);
            for _ in 0..self.steps {
                P::step::<S, ROWS>(x, w, &mut acc);
                x = x.add(ROWS * P::STEP_WORDS);
                w = w.add(2 * S::LANES * P::Weight::STEP_WORDS);
            }
            self.put::<S, ROWS>(acc);
        }
    }

    #[inline(always)]
    unsafe fn put<S: Simd, const ROWS: usize>(self, mut acc: [Pair<S>; ROWS]) {
        let mut bias = [0.0; 2 * MAX_LANES];
        let mut row_buffer = [0.0; 2 * MAX_LANES];
        if let Some(values) = self.bias {
            bias[..values.len()].copy_from_slice(values);
        }
        // SAFETY: passed on to the caller; a partial panel goes through a buffer of a whole one.
        unsafe {
            for (row, acc) in acc.iter_mut().enumerate() {
                let y = self.y.add(row * self.stride);
                let to = if self.columns == 2 * S::LANES { y } else { row_buffer.as_mut_ptr() };
                for (half, &sum) in acc.iter().enumerate() {
                    let at = half * S::LANES;
                    S::store(to.add(at), S::add(sum, S::load(bias.as_ptr().add(at))));
                }
                if self.columns < 2 * S::LANES {
                    y.copy_from_nonoverlapping(row_buffer.as_ptr(), self.columns);
                }
            }
        }
    }
}

/// Lays up to `2 * LANES` rows of weights into a panel; missing columns and the missing last number are zero.
#[inline(always)]
unsafe fn pack_panel<S: Simd, T: Stored>(weights: &[T], inputs: usize, panel: &mut [u32]) {
    let width = 2 * S::LANES;
    let words = panel.len() / width;
    for (group, weights) in weights.chunks(S::LANES * inputs).enumerate() {
        let mut packed = 0;
        if weights.len() == S::LANES * inputs {
            packed = inputs / T::PER_WORD / S::LANES * S::LANES;
            let next = weights.as_ptr_range().end.cast::<u8>().wrapping_add(PREFETCH_BYTES);
            for word in (0..packed).step_by(S::LANES) {
                // SAFETY: LANES rows have LANES words from here on, and so has the panel.
                unsafe {
                    let from = weights.as_ptr().add(word * T::PER_WORD);
                    for row in 0..S::LANES {
                        S::prefetch(next.wrapping_add((word + row) * S::LANES * T::PER_WORD * size_of::<T>()));
                    }
                    T::pack::<S>(from, inputs, panel.as_mut_ptr().add(word * width + group * S::LANES), width);
                }
            }
        }
        for (row, weights) in weights.chunks_exact(inputs).enumerate() {
            for word in packed..words {
                let numbers = &weights[(word * T::PER_WORD).min(inputs)..inputs.min((word + 1) * T::PER_WORD)];
                panel[word * width + group * S::LANES + row] = T::word(numbers);
            }
        }
    }
    let present = weights.len() / inputs;
    if present < width {
        panel.chunks_exact_mut(width).for_each(|row| row[present..].fill(0));
    }
}

/// How far behind the rows at hand weights are asked for, in the order of memory.
const PREFETCH_BYTES: usize = 4096;
