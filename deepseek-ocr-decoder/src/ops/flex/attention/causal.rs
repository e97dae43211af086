//! Many positions of one sequence: blocks of keys pass blocks of queries, and the softmax is corrected on the way, so
//! that the scores of all pairs are never held (online softmax; Milakov and Gimelshein, FlashAttention).
//!
//! Keys are transposed once into blocks, so that scores and sums of values are both products of a tile that stays in
//! registers.

use super::{exponentials, highest, scale};
use crate::ops::flex::vector::{self, LANES, Multiply, Work};
use deepseek_ocr_core::ops::flex::Isa;
use rayon::prelude::*;

/// Keys of a block, and columns of a tile.
const BLOCK: usize = 4 * LANES;
/// Rows of a tile: with [`BLOCK`] columns its sums fill half of 32 registers.
const TILE_ROWS: usize = 4;
/// Queries of a task.
const QUERIES: usize = 64;

/// The shape of an attention of the last `length` of `total` positions.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops::flex) struct Causal {
    pub(in crate::ops::flex) heads: usize,
    pub(in crate::ops::flex) length: usize,
    pub(in crate::ops::flex) total: usize,
    pub(in crate::ops::flex) width: usize,
}

/// A block of queries of one head.
struct Queries<'a> {
    shape: Causal,
    /// Position of the first.
    first: usize,
    /// `[queries, width]`.
    queries: &'a [f32],
    /// The head's blocks of [`Pack`].
    packed: &'a [f32],
    /// `[queries, width]`.
    y: &'a mut [f32],
}

/// Lays a block of keys and values out: keys as `[width, BLOCK]`, values as `[BLOCK, padded width]`, padded with zeros.
struct Pack<'a> {
    width: usize,
    keys: &'a [f32],
    values: &'a [f32],
    to: &'a mut [f32],
}

/// `c += a b`, row by row with the distances given.
struct Product<'a> {
    /// `[rows, inner]`.
    a: (&'a [f32], usize),
    /// `[inner, BLOCK]`, from its first column on.
    b: (&'a [f32], usize),
    inner: usize,
    /// `[rows, BLOCK]`, from its first column on.
    c: (&'a mut [f32], usize),
}

impl Causal {
    /// # Shapes
    /// - `queries`, `y`: `[heads, length, width]`
    /// - `keys`, `values`: `[heads, total, width]`
    pub(in crate::ops::flex) fn attend(self, isa: Isa, [queries, keys, values]: [&[f32]; 3], y: &mut [f32]) {
        let Self { heads, length, total, width } = self;
        assert_eq!([queries.len(), y.len()], [heads * length * width; 2], "a query for each head and position");
        assert_eq!([keys.len(), values.len()], [heads * total * width; 2], "a key for each head and position");
        if y.is_empty() {
            return;
        }
        let (block, head) = (self.block_numbers(), self.block_numbers() * total.div_ceil(BLOCK));
        let mut packed = vec![0.0; heads * head];
        packed.par_chunks_exact_mut(head).enumerate().for_each(|(at, to)| {
            let whole = at * total * width..(at + 1) * total * width;
            let (keys, values) = (&keys[whole.clone()], &values[whole]);
            let blocks = keys.chunks(BLOCK * width).zip(values.chunks(BLOCK * width));
            for ((keys, values), to) in blocks.zip(to.chunks_exact_mut(block)) {
                vector::run(isa, Pack { width, keys, values, to });
            }
        });
        let tasks = queries.par_chunks_exact(length * width).zip(y.par_chunks_exact_mut(length * width)).enumerate();
        tasks.for_each(|(at, (queries, y))| {
            let packed = &packed[at * head..(at + 1) * head];
            // The last queries see most keys: they come first.
            let tasks = queries.par_chunks(QUERIES * width).zip(y.par_chunks_mut(QUERIES * width)).enumerate().rev();
            tasks.with_max_len(1).for_each(|(task, (queries, y))| {
                let first = total - length + task * QUERIES;
                vector::run(isa, Queries { shape: self, first, queries, packed, y });
            });
        });
    }

    fn padded_width(&self) -> usize {
        self.width.next_multiple_of(BLOCK)
    }

    /// Numbers of a packed block.
    fn block_numbers(&self) -> usize {
        BLOCK * (self.width + self.padded_width())
    }
}

impl Work for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Multiply>(self) {
        let width = self.width;
        let (keys, values) = self.to.split_at_mut(width * BLOCK);
        for (at, key) in self.keys.chunks_exact(width).enumerate() {
            for (component, &number) in key.iter().enumerate() {
                keys[component * BLOCK + at] = number;
            }
        }
        let padded = width.next_multiple_of(BLOCK);
        for (value, to) in self.values.chunks_exact(width).zip(values.chunks_exact_mut(padded)) {
            to[..width].copy_from_slice(value);
        }
    }
}

impl Work for Queries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Multiply>(self) {
        let Self { shape, first, .. } = self;
        let (width, padded) = (shape.width, shape.padded_width());
        let count = self.queries.len() / width;
        let scale = scale(width);
        let queries: Vec<f32> = self.queries.iter().map(|query| query * scale).collect();
        let mut scores = vec![0.0; count * BLOCK];
        let mut sums = vec![0.0; count * padded];
        let mut states = vec![(f32::NEG_INFINITY, 0.0f32); count];
        let blocks = (first + count).div_ceil(BLOCK);
        for (block, packed) in self.packed.chunks_exact(shape.block_numbers()).take(blocks).enumerate() {
            let (keys, values) = packed.split_at(width * BLOCK);
            scores.fill(0.0);
            let b = (keys, BLOCK);
            Product { a: (&queries, width), b, inner: width, c: (&mut scores, BLOCK) }.rows::<M>(count);
            for (at, scores) in scores.chunks_exact_mut(BLOCK).enumerate() {
                // Keys of this block up to the query's own position.
                let seen = (first + at + 1).saturating_sub(block * BLOCK).min(BLOCK);
                let correction = soften::<M>(scores, seen, &mut states[at]);
                sums[at * padded..][..padded].iter_mut().for_each(|sum| *sum *= correction);
            }
            for column in (0..padded).step_by(BLOCK) {
                let b = (&values[column..], padded);
                let c = (&mut sums[column..], padded);
                Product { a: (&scores, BLOCK), b, inner: BLOCK, c }.rows::<M>(count);
            }
        }
        for ((y, sums), (_, total)) in self.y.chunks_exact_mut(width).zip(sums.chunks_exact(padded)).zip(states) {
            let factor = total.recip();
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum * factor);
        }
    }
}

/// Turns the first `seen` scores into exponentials against the highest score so far, the rest into zeros, and gives the factor
/// that corrects what was summed against the former highest.
#[inline(always)]
fn soften<M: Multiply>(scores: &mut [f32], seen: usize, (top, total): &mut (f32, f32)) -> f32 {
    if seen == 0 {
        scores.fill(0.0);
        return 1.0;
    }
    let (scores, later) = scores.split_at_mut(seen);
    later.fill(0.0);
    let new = highest(scores).max(*top);
    let correction = vector::exp::<M>(*top - new);
    *total = *total * correction + exponentials::<M>(scores, new);
    *top = new;
    correction
}

impl Product<'_> {
    #[inline(always)]
    fn rows<M: Multiply>(mut self, rows: usize) {
        let mut row = 0;
        while row < rows {
            row += match rows - row {
                1 => self.tile::<M, 1>(row),
                2 => self.tile::<M, 2>(row),
                3 => self.tile::<M, 3>(row),
                _ => self.tile::<M, TILE_ROWS>(row),
            };
        }
    }

    #[inline(always)]
    fn tile<M: Multiply, const ROWS: usize>(&mut self, row: usize) -> usize {
        let ((a, a_stride), (b, b_stride), inner) = (self.a, self.b, self.inner);
        let a: [&[f32]; ROWS] = std::array::from_fn(|at| &a[(row + at) * a_stride..][..inner]);
        let mut sums = [[0.0f32; BLOCK]; ROWS];
        for at in 0..inner {
            let b = &b[at * b_stride..][..BLOCK];
            for (sums, a) in sums.iter_mut().zip(a) {
                let a = a[at];
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum = M::add(a, b, *sum);
                }
            }
        }
        let (c, c_stride) = (&mut self.c.0, self.c.1);
        for (at, sums) in sums.iter().enumerate() {
            c[(row + at) * c_stride..][..BLOCK].iter_mut().zip(sums).for_each(|(c, sum)| *c += sum);
        }
        ROWS
    }
}
