//! Few rows: each weight is read once, widened in a register and multiplied with every row.
//!
//! With one row this runs at the memory's speed; the rows of activations stay in the first cache.

use super::{
    isa::{MAX_LANES, Simd, Work},
    product::Product,
    stored::padded,
};
use std::marker::PhantomData;

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

    /// A row's sums do not depend on how many rows there are: `steady` kernels rely on it.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let outputs = self.weights.len().checked_div(self.inputs).unwrap_or(0);
        // SAFETY: passed on to the caller.
        unsafe {
            match self.rows {
                // One row of weights at a time is what memory reads fastest: 46 instead of 40 GB/s on two cores of Zen 4. The next
                // row's sum begins before this one's ends.
                1 => self.outputs::<S, 1>(outputs),
                2 => self.outputs::<S, 4>(outputs),
                _ if S::TILE_ROWS >= WIDE_TILE_ROWS => self.outputs::<S, 4>(outputs),
                _ => self.outputs::<S, 2>(outputs),
            }
        }
    }
}

/// How far behind the rows at hand weights are asked for, in the order of memory: one stream into the second cache, whatever the
/// number of rows. Into the first cache, or row by row, it is slower than without (11 instead of 17 GB/s with four rows).
const PREFETCH_BYTES: usize = 4096;
/// Rows of activations at once.
const GROUP_ROWS: usize = 4;
/// Instruction sets whose tiles have as many rows have registers for four rows of weights at once.
const WIDE_TILE_ROWS: usize = 12;

impl<P: Product> Dots<'_, P> {
    /// `WIDTH` rows of weights at a time; a second group of rows finds them in the first cache.
    #[inline(always)]
    unsafe fn outputs<S: Simd, const WIDTH: usize>(&self, outputs: usize) {
        let whole = outputs - outputs % WIDTH;
        // SAFETY: groups stay within the rows and outputs that the caller vouches for.
        unsafe {
            for output in (0..whole).step_by(WIDTH) {
                self.rows::<S, WIDTH>(output);
            }
            for output in whole..outputs {
                self.rows::<S, 1>(output);
            }
        }
    }

    #[inline(always)]
    unsafe fn rows<S: Simd, const WIDTH: usize>(&self, output: usize) {
        let mut row = 0;
        while row < self.rows {
            let left = self.rows - row;
            // SAFETY: passed on to the caller.
            row += unsafe {
                // Nearly equal groups: one of four rows and one of one cost more than two of three and two.
                match left.div_ceil(left.div_ceil(GROUP_ROWS)) {
                    1 => self.group::<S, 1, WIDTH>(row, output),
                    2 => self.group::<S, 2, WIDTH>(row, output),
                    3 => self.group::<S, 3, WIDTH>(row, output),
                    _ => self.group::<S, GROUP_ROWS, WIDTH>(row, output),
                }
            };
        }
    }

    /// `ROWS` rows with `WIDTH` rows of weights: that many sums are under way at once.
    #[inline(always)]
    unsafe fn group<S: Simd, const ROWS: usize, const WIDTH: usize>(&self, row: usize, output: usize) -> usize {
        const { assert!(S::LANES <= MAX_LANES) };
        let (step, words) = (2 * S::LANES, S::LANES * P::STEP_WORDS);
        let (steps, rest) = (self.inputs / step, self.inputs % step);
        let stride = self.inputs.div_ceil(step) * words;
        let weights = &self.weights[output * self.inputs..][..WIDTH * self.inputs];
        // SAFETY: steps stay within a row of weights and the prepared rows; the rest is read from a padded copy.
        unsafe {
            let mut acc = [[S::zero(); ROWS]; WIDTH];
            let (x, w) = (self.x.as_ptr().add(row * stride), weights.as_ptr());
            let next = w.wrapping_add(WIDTH * self.inputs).cast::<u8>().wrapping_add(PREFETCH_BYTES);
            for i in 0..steps {
                for (at, acc) in acc.iter_mut().enumerate() {
                    S::prefetch(next.wrapping_add((i * WIDTH + at) * step * size_of::<P::Weight>()));
                    multiply::<S, P, ROWS>(x.add(i * words), stride, w.add(at * self.inputs + i * step), acc);
                }
            }
            for (at, acc) in acc.iter_mut().enumerate() {
                if rest > 0 {
                    let last = padded(&weights[at * self.inputs..][steps * step..self.inputs]);
                    multiply::<S, P, ROWS>(x.add(steps * words), stride, last.as_ptr(), acc);
                }
                for (of, &mut sum) in acc.iter_mut().enumerate() {
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
