//! Attention forwards and backwards on slices, some rows of scores at a time.

use super::{Kernel, Loops, vectorized};
use crate::ops::{Precision, autodiff::Mask};
use rayon::prelude::*;

/// Queries whose scores are in memory at once: with 1400 keys 360 KB, which the second cache holds.
const QUERIES: usize = 64;

/// Sums that run side by side: one vector of the widest registers.
const LANES: usize = 16;

/// Attention of several heads, each for itself.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// `[heads, tokens, head]`, as are `k` and `v`.
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
    /// `[heads, tokens, grid[0]]`; empty without a grid.
    pub(crate) vertical: &'a [f32],
    /// `[heads, tokens, grid[1]]`; empty without a grid.
    pub(crate) horizontal: &'a [f32],
    /// Rows and columns of the tokens, or zeros.
    pub(crate) grid: [usize; 2],
    pub(crate) tokens: usize,
    pub(crate) head: usize,
    pub(crate) mask: Mask,
}

/// What the inputs are to be changed by for one more of the output; each as large as the input, and zero.
pub(crate) struct Slopes<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
    pub(crate) vertical: &'a mut [f32],
    pub(crate) horizontal: &'a mut [f32],
}

impl Attention<'_> {
    /// `y`: `[heads, tokens, head]`.
    pub(crate) fn forward(&self, y: &mut [f32]) {
        y.par_chunks_mut(self.tokens * self.head).enumerate().for_each(|(index, y)| self.one(index).attend(y));
    }

    /// Adds to `into` what `slope`, that of the output, makes of it.
    pub(crate) fn backward(&self, slope: &[f32], into: Slopes<'_>) {
        let size = self.tokens * self.head;
        let [rows, columns] = self.grid.map(|side| (self.tokens * side).max(1));
        let heads = slope.len() / size;
        let mut terms: Vec<(&mut [f32], &mut [f32])> =
            into.vertical.chunks_mut(rows).zip(into.horizontal.chunks_mut(columns)).collect();
        terms.resize_with(heads, Default::default);
        let parts = into.q.par_chunks_mut(size).zip(into.k.par_chunks_mut(size)).zip(into.v.par_chunks_mut(size));
        parts.zip(terms).enumerate().for_each(|(index, (((q, k), v), (vertical, horizontal)))| {
            let slope = &slope[index * size..][..size];
            self.one(index).slopes(slope, Slopes { q, k, v, vertical, horizontal });
        });
    }

    /// One of the heads.
    fn one(&self, index: usize) -> Self {
        let size = self.tokens * self.head;
        let own = |size: usize| index * size..(index + 1) * size;
        let [rows, columns] = self.grid.map(|side| self.tokens * side);
        Self {
            q: &self.q[own(size)],
            k: &self.k[own(size)],
            v: &self.v[own(size)],
            vertical: &self.vertical[own(rows)],
            horizontal: &self.horizontal[own(columns)],
            ..*self
        }
    }

    fn attend(&self, y: &mut [f32]) {
        let mut weights = Vec::new();
        for first in (0..self.tokens).step_by(QUERIES) {
            let (count, seen) = self.weights(first, &mut weights);
            let y = &mut y[first * self.head..][..count * self.head];
            product(y, Matrix::new(&weights, [count, seen]), Matrix::new(self.v, [seen, self.head]), 1.0, Sum::New);
        }
    }

    fn slopes(&self, slope: &[f32], into: Slopes<'_>) {
        let (head, scale) = (self.head, self.scale());
        let (mut weights, mut scores) = (Vec::new(), Vec::new());
        for first in (0..self.tokens).step_by(QUERIES) {
            let (count, seen) = self.weights(first, &mut weights);
            let block = first * head..(first + count) * head;
            let slope = Matrix::new(&slope[block.clone()], [count, head]);
            let seen_by = |x| Matrix::new(x, [seen, head]);
            let of_weights = Matrix::new(&weights, [count, seen]);
            product(&mut into.v[..seen * head], of_weights.transposed(), slope, 1.0, Sum::Added);
            scores.resize(count * seen, 0.0);
            product(&mut scores, slope, seen_by(self.v).transposed(), 1.0, Sum::New);
            vectorized(OfScores { weights: &weights, scores: &mut scores, columns: seen });
            let of_scores = Matrix::new(&scores, [count, seen]);
            product(&mut into.q[block.clone()], of_scores, seen_by(self.k), scale, Sum::New);
            let q = Matrix::new(&self.q[block], [count, head]);
            product(&mut into.k[..seen * head], of_scores.transposed(), q, scale, Sum::Added);
            if self.grid[0] > 0 {
                let [rows, columns] = self.grid.map(|side| first * side..(first + count) * side);
                let (vertical, horizontal) = (&mut into.vertical[rows], &mut into.horizontal[columns]);
                vectorized(OfTerms { scores: &scores, vertical, horizontal, grid: self.grid });
            }
        }
    }

    /// The weights of some queries' keys; how many queries these are, and how many keys they see.
    fn weights(&self, first: usize, weights: &mut Vec<f32>) -> (usize, usize) {
        let (head, count) = (self.head, QUERIES.min(self.tokens - first));
        let seen = match self.mask {
            Mask::All => self.tokens,
            Mask::Causal => first + count,
        };
        weights.resize(count * seen, 0.0);
        let q = Matrix::new(&self.q[first * head..][..count * head], [count, head]);
        let k = Matrix::new(&self.k[..seen * head], [seen, head]);
        product(weights, q, k.transposed(), self.scale(), Sum::New);
        if self.grid[0] > 0 {
            let [vertical, horizontal] = [(self.vertical, self.grid[0]), (self.horizontal, self.grid[1])]
                .map(|(terms, side)| &terms[first * side..][..count * side]);
            vectorized(Terms { scores: weights, vertical, horizontal, grid: self.grid });
        }
        if self.mask == Mask::Causal {
            for (query, row) in weights.chunks_exact_mut(seen).enumerate() {
                row[first + query + 1..].fill(f32::NEG_INFINITY);
            }
        }
        Kernel::new(Precision::Exact).softmax_rows(weights, seen);
        (count, seen)
    }

    fn scale(&self) -> f32 {
        (self.head as f32).sqrt().recip()
    }
}

/// Adds the terms of rows and columns to scores.
struct Terms<'a> {
    scores: &'a mut [f32],
    vertical: &'a [f32],
    horizontal: &'a [f32],
    grid: [usize; 2],
}

impl Loops for Terms<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [rows, columns] = self.grid;
        let terms = self.vertical.chunks_exact(rows).zip(self.horizontal.chunks_exact(columns));
        for (scores, (vertical, horizontal)) in self.scores.chunks_exact_mut(rows * columns).zip(terms) {
            for (scores, vertical) in scores.chunks_exact_mut(columns).zip(vertical) {
                for (score, horizontal) in scores.iter_mut().zip(horizontal) {
                    *score += vertical + horizontal;
                }
            }
        }
    }
}

/// Turns the slopes of weights into those of scores: `weight * (slope - sum of weight * slope)`.
struct OfScores<'a> {
    weights: &'a [f32],
    scores: &'a mut [f32],
    columns: usize,
}

impl Loops for OfScores<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (weights, slopes) in self.weights.chunks_exact(self.columns).zip(self.scores.chunks_exact_mut(self.columns))
        {
            let mean = dot(weights, slopes);
            for (slope, weight) in slopes.iter_mut().zip(weights) {
                *slope = weight * (*slope - mean);
            }
        }
    }
}

/// Sums the slopes of scores for each row and column of keys.
struct OfTerms<'a> {
    scores: &'a [f32],
    vertical: &'a mut [f32],
    horizontal: &'a mut [f32],
    grid: [usize; 2],
}

impl Loops for OfTerms<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let [rows, columns] = self.grid;
        let terms = self.vertical.chunks_exact_mut(rows).zip(self.horizontal.chunks_exact_mut(columns));
        for (slopes, (vertical, horizontal)) in self.scores.chunks_exact(rows * columns).zip(terms) {
            for (slopes, vertical) in slopes.chunks_exact(columns).zip(vertical) {
                let mut sum = 0.0;
                for (slope, horizontal) in slopes.iter().zip(horizontal.iter_mut()) {
                    *horizontal += slope;
                    sum += slope;
                }
                *vertical += sum;
            }
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// A matrix in a slice.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    values: &'a [f32],
    size: [usize; 2],
    strides: [usize; 2],
}

/// What becomes of what the output held.
#[derive(Clone, Copy, PartialEq)]
enum Sum {
    New,
    Added,
}

impl<'a> Matrix<'a> {
    /// Row after row; of a longer slice the first of them.
    fn new(values: &'a [f32], size: [usize; 2]) -> Self {
        Self { values: &values[..size[0] * size[1]], size, strides: [size[1], 1] }
    }

    fn transposed(self) -> Self {
        let ([rows, columns], [down, across]) = (self.size, self.strides);
        Self { size: [columns, rows], strides: [across, down], ..self }
    }
}

/// `y = scale * a b`, or that much more; `y` row after row.
fn product(y: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, scale: f32, sum: Sum) {
    let ([rows, inner], [inner_of_b, columns]) = (a.size, b.size);
    assert!(inner == inner_of_b && y.len() == rows * columns, "matrices of these sizes have no product");
    let (a_strides, b_strides) = (a.strides.map(|stride| stride as isize), b.strides.map(|stride| stride as isize));
    // SAFETY: a matrix' slice holds all of its elements at its strides, and `y` those of the product, row after row; nothing else
    // refers to `y`.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            y.as_mut_ptr(),
            1,
            columns as isize,
            sum == Sum::Added,
            a.values.as_ptr(),
            a_strides[1],
            a_strides[0],
            b.values.as_ptr(),
            b_strides[1],
            b_strides[0],
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
