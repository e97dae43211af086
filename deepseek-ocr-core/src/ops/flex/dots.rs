//! Few rows: each weight is read once, widened in a register and multiplied with every row.
//!
//! With one row this runs at the memory's speed; the rows of activations stay in the first cache.

use super::{
    isa::{MAX_LANES, Simd, Work},
    product::Product,
    stored::padded,
};
use std::{marker::PhantomData, ops::Range};

/// Lays rows of activations out for [`Dots`]: each row in steps of `2 * LANES` numbers, the last filled up with zeros.
pub(super) struct Prepare<'a, P> {
    pub(super) x: &'a [f32],
    pub(super) inputs: usize,
    pub(super) product: PhantomData<P>,
}

/// `y[row][output] = x[row] . w[output]` on one thread.
///
/// # Safety
/// `x` was prepared for the same instruction set, product and inputs; there are `outputs` rows at `y`'s stride for each row.
pub(super) struct Dots<'a, P: Product> {
    /// Rows of [`Prepare`], one after the other.
    pub(super) x: &'a [u32],
    pub(super) rows: usize,
    /// Whole rows of weights.
    pub(super) weights: &'a [P::Weight],
    pub(super) inputs: usize,
    pub(super) y: *mut f32,
    /// Numbers from one row of `y` to the next.
    pub(super) stride: usize,
}

impl<P: Product> Work for Prepare<'_, P> {
    type Output = Vec<u32>;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Vec<u32> {
        let per_word = 2 / P::STEP_WORDS;
        let step = S::LANES * P::STEP_WORDS;
        let stride = self.inputs.div_ceil(2 * S::LANES) * step;
        let rows = self.x.len().checked_div(self.inputs).unwrap_or(0);
        let mut words = vec![0; rows * stride];
        for (row, out) in self.x.chunks_exact(self.inputs.max(1)).zip(words.chunks_exact_mut(stride.max(1))) {
            for (numbers, out) in row.chunks(2 * S::LANES).zip(out.chunks_exact_mut(step)) {
                for (at, numbers) in numbers.chunks(per_word).enumerate() {
                    out[P::place(at, S::LANES)] = P::word(numbers);
                }
            }
        }
        words
    }
}

impl<P: Product> Work for Dots<'_, P> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let outputs = self.weights.len().checked_div(self.inputs).unwrap_or(0);
        // SAFETY: passed on to the caller.
        unsafe {
            match self.rows {
                // One stream is what memory reads fastest, as long as the activations stay in the first cache.
                1 if self.inputs <= LONG_ROW => self.outputs::<S, 1, 8>(0..outputs),
                _ if S::TILE_ROWS < WIDE_TILE_ROWS => self.outputs::<S, 2, 1>(0..outputs),
                1 => self.outputs::<S, 4, 2>(0..outputs),
                _ => self.outputs::<S, 4, 1>(0..outputs),
            }
        }
    }
}

/// How far behind the rows at hand weights are asked for, in the order of memory: one stream into the second cache, whatever the
/// number of rows. Into the first cache, or row by row, it is slower than without (11 instead of 17 GB/s with four rows).
const PREFETCH_BYTES: usize = 4096;
/// Rows of activations at once.
const GROUP_ROWS: usize = 4;
/// Inputs whose activations no longer leave room in a first cache of 32 KiB.
const LONG_ROW: usize = 4096;
/// Instruction sets whose tiles have as many rows have registers for four rows of weights at once.
const WIDE_TILE_ROWS: usize = 12;

impl<P: Product> Dots<'_, P> {
    /// `WIDTH` rows of weights at a time; a second group of rows finds them in the first cache.
    #[inline(always)]
    unsafe fn outputs<S: Simd, const WIDTH: usize, const UNROLL: usize>(&self, range: Range<usize>) {
        let whole = range.end - range.len() % WIDTH;
        // SAFETY: groups stay within the rows and outputs that the caller vouches for.
        unsafe {
            for output in (range.start..whole).step_by(WIDTH) {
                self.rows::<S, WIDTH, UNROLL>(output);
            }
            for output in whole..range.end {
                self.rows::<S, 1, UNROLL>(output);
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const WIDTH: usize, const UNROLL: usize>(&self, output: usize) {
        let mut row = 0;
        while row < self.rows {
            let left = self.rows - row;
            // SAFETY: passed on to the caller.
            row += unsafe {
                // Nearly equal groups: one of four rows and one of one cost more than two of three and two.
                match left.div_ceil(left.div_ceil(GROUP_ROWS)) {
                    1 => self.group::<S, 1, WIDTH, UNROLL>(row, output),
                    2 => self.group::<S, 2, WIDTH, 1>(row, output),
                    3 => self.group::<S, 3, WIDTH, 1>(row, output),
                    _ => self.group::<S, GROUP_ROWS, WIDTH, 1>(row, output),
                }
            };
        }
    }

    /// `ROWS` rows with `WIDTH` rows of weights, `UNROLL` steps at once: that many sums are under way together.
    #[inline(always)]
    unsafe fn group<S: Simd, const ROWS: usize, const WIDTH: usize, const UNROLL: usize>(
        &self,
        row: usize,
        output: usize,
    ) -> usize {
        const { assert!(S::LANES <= MAX_LANES) };
        let (step, words) = (2 * S::LANES, S::LANES * P::STEP_WORDS);
        let (steps, rest) = (self.inputs / step, self.inputs % step);
        let stride = self.inputs.div_ceil(step) * words;
        let weights = &self.weights[output * self.inputs..][..WIDTH * self.inputs];
        // SAFETY: steps stay within a row of weights and the prepared rows; the rest is read from a padded copy.
        unsafe {
            let mut acc = [[[S::zero(); ROWS]; WIDTH]; UNROLL];
            let (x, w) = (self.x.as_ptr().add(row * stride), weights.as_ptr());
            let next = w.wrapping_add(WIDTH * self.inputs).cast::<u8>().wrapping_add(PREFETCH_BYTES);
            let unrolled = steps - steps % UNROLL;
            for first in (0..unrolled).step_by(UNROLL) {
                for (ahead, acc) in acc.iter_mut().enumerate() {
                    let i = first + ahead;
                    for (at, acc) in acc.iter_mut().enumerate() {
                        S::prefetch(next.wrapping_add((i * WIDTH + at) * step * size_of::<P::Weight>()));
                        multiply::<S, P, ROWS>(x.add(i * words), stride, w.add(at * self.inputs + i * step), acc);
                    }
                }
            }
            for (at, acc) in acc[0].iter_mut().enumerate() {
                let w = &weights[at * self.inputs..][..self.inputs];
                for i in unrolled..steps {
                    multiply::<S, P, ROWS>(x.add(i * words), stride, w.as_ptr().add(i * step), acc);
                }
                if rest > 0 {
                    let last = padded(&w[steps * step..]);
                    multiply::<S, P, ROWS>(x.add(steps * words), stride, last.as_ptr(), acc);
                }
            }
            for at in 0..WIDTH {
                for of in 0..ROWS {
                    let sum = acc.iter().fold(S::zero(), |sum, acc| S::add(sum, acc[at][of]));
                    *self.y.add((row + of) * self.stride + output + at) = S::sum(sum);
                }
            }
        }
        ROWS
    }
}

/// One step of weights with `ROWS` rows of activations.
#[inline(always)]
unsafe fn multiply<S: Simd, P: Product, const ROWS: usize>(
    x: *const u32,
    x_stride: usize,
    w: *const P::Weight,
    acc: &mut [S::Vector; ROWS],
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let w = P::weights::<S>(w);
        for (row, acc) in acc.iter_mut().enumerate() {
            *acc = P::dot::<S>(x.add(row * x_stride), &w, *acc);
        }
    }
}
