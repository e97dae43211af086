//! Few rows: each weight is read once, widened in a register and multiplied with every row.
//!
//! With one row this runs at the memory's speed; the rows of activations stay in the first cache.

use super::{
    isa::{MAX_LANES, Simd, Work},
    product::{Pair, Product},
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

/// A group of rows and weight rows whose accumulators stay in registers.
#[derive(Clone, Copy)]
struct Group {
    row: usize,
    output: usize,
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
        let mut row = 0;
        // SAFETY: groups stay within the rows and outputs that the caller vouches for.
        unsafe {
            while row < self.rows {
                row += match self.rows - row {
                    1 => self.strip::<S, 1, 4>(row, outputs),
                    2 => self.strip::<S, 2, 4>(row, outputs),
                    3 => self.strip::<S, 3, 2>(row, outputs),
                    _ => self.strip::<S, 4, 2>(row, outputs),
                };
            }
        }
    }
}

impl<P: Product> Dots<'_, P> {
    /// All outputs of `ROWS` rows, `WIDTH` at a time.
    #[inline(always)]
    unsafe fn strip<S: Simd, const ROWS: usize, const WIDTH: usize>(&self, row: usize, outputs: usize) -> usize {
        let whole = outputs - outputs % WIDTH;
        // SAFETY: passed on to the caller.
        unsafe {
            for output in (0..whole).step_by(WIDTH) {
                self.group::<S, ROWS, WIDTH>(Group { row, output });
            }
            for output in whole..outputs {
                self.group::<S, ROWS, 1>(Group { row, output });
            }
        }
        ROWS
    }

    #[inline(always)]
    unsafe fn group<S: Simd, const ROWS: usize, const WIDTH: usize>(&self, at: Group) {
        const { assert!(2 * S::LANES <= 2 * MAX_LANES) };
        let (step, words) = (2 * S::LANES, S::LANES * P::STEP_WORDS);
        let (steps, rest) = (self.inputs / step, self.inputs % step);
        let x_stride = self.inputs.div_ceil(step) * words;
        // SAFETY: steps stay within a row of weights and a prepared row; the rest is read from a padded copy.
        unsafe {
            let x = self.x.as_ptr().add(at.row * x_stride);
            let w = self.weights.as_ptr().add(at.output * self.inputs);
            let mut acc = [[[S::zero(); 2]; ROWS]; WIDTH];
            for i in 0..steps {
                for (output, acc) in acc.iter_mut().enumerate() {
                    let from = w.add(output * self.inputs + i * step);
                    // The next group's weights at the same place.
                    S::prefetch(from.wrapping_add(WIDTH * self.inputs).cast());
                    multiply::<S, P, ROWS>(x.add(i * words), x_stride, from, acc);
                }
            }
            if rest > 0 {
                for (output, acc) in acc.iter_mut().enumerate() {
                    let end = (at.output + output + 1) * self.inputs;
                    let from = padded(&self.weights[end - rest..end]);
                    multiply::<S, P, ROWS>(x.add(steps * words), x_stride, from.as_ptr(), acc);
                }
            }
            for (output, acc) in acc.iter().enumerate() {
                for (row, &[first, second]) in acc.iter().enumerate() {
                    let to = self.y.add((at.row + row) * self.stride + at.output + output);
                    *to = S::sum(S::add(first, second));
                }
            }
        }
    }
}

/// One step of weights with `ROWS` rows of activations.
#[inline(always)]
unsafe fn multiply<S: Simd, P: Product, const ROWS: usize>(
    x: *const u32,
    x_stride: usize,
    w: *const P::Weight,
    acc: &mut [Pair<S>; ROWS],
) {
    // SAFETY: passed on to the caller.
    unsafe {
        let w = P::weights::<S>(w);
        for (row, acc) in acc.iter_mut().enumerate() {
            P::dot::<S>(x.add(row * x_stride), &w, acc);
        }
    }
}
