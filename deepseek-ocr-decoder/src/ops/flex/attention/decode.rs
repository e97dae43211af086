//! One position in each of several rows: keys and values are read once, at the memory's speed.

use super::{exponentials, highest, scale};
use crate::{
    Place,
    ops::flex::vector::{self, LANES, Multiply, Work},
};
use deepseek_ocr_core::ops::flex::Isa;
use rayon::prelude::*;

/// Components whose sums stay in registers while all values pass.
const COLUMNS: usize = 8 * LANES;

/// The shape of a cache.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops::flex) struct Decode {
    pub(in crate::ops::flex) heads: usize,
    /// Positions of each row.
    pub(in crate::ops::flex) allocated: usize,
    pub(in crate::ops::flex) width: usize,
}

/// One query of one head.
struct Query<'a> {
    query: &'a [f32],
    /// `[seen, width]`.
    keys: &'a [f32],
    /// `[seen, width]`.
    values: &'a [f32],
    /// `[width]`.
    y: &'a mut [f32],
}

impl Decode {
    /// # Shapes
    /// - `queries`, `y`: `[places, heads, width]`
    /// - `keys`, `values`: `[cache rows, heads, allocated, width]`
    pub(in crate::ops::flex) fn attend(
        self,
        isa: Isa,
        [queries, keys, values]: [&[f32]; 3],
        places: &[Place],
        y: &mut [f32],
    ) {
        let Self { heads, allocated, width } = self;
        assert_eq!([queries.len(), y.len()], [places.len() * heads * width; 2], "a query for each place and head");
        let queries = queries.par_chunks_exact(width).zip(y.par_chunks_exact_mut(width)).with_max_len(1);
        queries.enumerate().for_each(|(at, (query, y))| {
            let Place { row, position } = places[at / heads];
            let from = (row * heads + at % heads) * allocated * width;
            let seen = from..from + (position + 1) * width;
            vector::run(isa, Query { query, keys: &keys[seen.clone()], values: &values[seen], y });
        });
    }
}

impl Work for Query<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Multiply>(self) {
        let width = self.query.len();
        let scale = scale(width);
        // No closures around products: what is not inlined does not take on the instruction set.
        let mut scores = vec![0.0; self.keys.len() / width];
        for (score, key) in scores.iter_mut().zip(self.keys.chunks_exact(width)) {
            *score = scale * dot::<M>(self.query, key);
        }
        let highest = highest(&scores);
        let factor = exponentials::<M>(&mut scores, highest).recip();
        for (block, y) in self.y.chunks_mut(COLUMNS).enumerate() {
            let from = block * COLUMNS;
            if y.len() == COLUMNS {
                let values = self.values.chunks_exact(width).map(|value| &value[from..from + COLUMNS]);
                let mut sums = [0.0; COLUMNS];
                for (&score, value) in scores.iter().zip(values) {
                    for (sum, &value) in sums.iter_mut().zip(value) {
                        *sum = M::add(score, value, *sum);
                    }
                }
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum * factor);
            } else {
                y.fill(0.0);
                for (&score, value) in scores.iter().zip(self.values.chunks_exact(width)) {
                    for (y, &value) in y.iter_mut().zip(&value[from..]) {
                        *y = M::add(score * factor, value, *y);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn dot<M: Multiply>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 2 * LANES];
    let (a, b) = (a.chunks_exact(2 * LANES), b.chunks_exact(2 * LANES));
    let rest = a.remainder().iter().zip(b.remainder());
    for (a, b) in a.zip(b) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum = M::add(a, b, *sum);
        }
    }
    // Halves are added to halves: that is vector code until the last few.
    let mut count = LANES;
    while count > 0 {
        for at in 0..count {
            sums[at] += sums[at + count];
        }
        count /= 2;
    }
    let mut sum = sums[0];
    for (&a, &b) in rest {
        sum = M::add(a, b, sum);
    }
    sum
}
