//! One position in each of several rows: keys and values are read once, at the memory's speed.

use super::{exponentials, highest, scale};
use crate::{
    Place,
    cache::{BLOCK, locate},
    ops::flex::vector::{self, LANES, Multiply, Work},
};
use deepseek_ocr_core::ops::flex::Isa;
use rayon::prelude::*;

/// Components whose sums stay in registers while all values pass.
const COLUMNS: usize = 8 * LANES;

/// A layer's cache: slabs of `[SLAB, heads, BLOCK, width]`.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops::flex) struct Decode<'a> {
    pub(in crate::ops::flex) heads: usize,
    pub(in crate::ops::flex) width: usize,
    pub(in crate::ops::flex) keys: &'a [&'a [f32]],
    pub(in crate::ops::flex) values: &'a [&'a [f32]],
}

/// One query of one head.
struct Query<'a> {
    cache: Decode<'a>,
    head: usize,
    query: &'a [f32],
    /// The row's blocks, up to the last position that is seen.
    blocks: &'a [u32],
    seen: usize,
    /// `[width]`.
    y: &'a mut [f32],
}

impl Decode<'_> {
    /// # Shapes
    /// - `queries`, `y`: `[places, heads, width]`
    pub(in crate::ops::flex) fn attend(self, isa: Isa, queries: &[f32], places: &[Place], y: &mut [f32]) {
        let Self { heads, width, .. } = self;
        assert_eq!([queries.len(), y.len()], [places.len() * heads * width; 2], "a query for each place and head");
        let queries = queries.par_chunks_exact(width).zip(y.par_chunks_exact_mut(width)).with_max_len(1);
        queries.enumerate().for_each(|(at, (query, y))| {
            let place = &places[at / heads];
            let seen = place.position + 1;
            let blocks = &place.blocks[..seen.div_ceil(BLOCK)];
            vector::run(isa, Query { cache: self, head: at % heads, query, blocks, seen, y });
        });
    }

    /// The vectors of one head in a block, `[BLOCK, width]`.
    #[inline(always)]
    fn block<'a>(&self, slabs: &[&'a [f32]], block: u32, head: usize) -> &'a [f32] {
        let ((slab, block), size) = (locate(block), BLOCK * self.width);
        &slabs[slab][(block * self.heads + head) * size..][..size]
    }
}

impl Work for Query<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Multiply>(self) {
        let Self { cache, head, query, .. } = self;
        let width = query.len();
        let scale = scale(width);
        // No closures around products: what is not inlined does not take on the instruction set.
        let mut scores = vec![0.0; self.seen];
        for (scores, &block) in scores.chunks_mut(BLOCK).zip(self.blocks) {
            let keys = cache.block(cache.keys, block, head);
            for (score, key) in scores.iter_mut().zip(keys.chunks_exact(width)) {
                *score = scale * dot::<M>(query, key);
            }
        }
        let highest = highest(&scores);
        let factor = exponentials::<M>(&mut scores, highest).recip();
        for (column, y) in self.y.chunks_mut(COLUMNS).enumerate() {
            let from = column * COLUMNS;
            if y.len() == COLUMNS {
                let mut sums = [0.0; COLUMNS];
                for (scores, &block) in scores.chunks(BLOCK).zip(self.blocks) {
                    let values = cache.block(cache.values, block, head);
                    for (&score, value) in scores.iter().zip(values.chunks_exact(width)) {
                        for (sum, &value) in sums.iter_mut().zip(&value[from..from + COLUMNS]) {
                            *sum = M::add(score, value, *sum);
                        }
                    }
                }
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = sum * factor);
            } else {
                y.fill(0.0);
                for (scores, &block) in scores.chunks(BLOCK).zip(self.blocks) {
                    let values = cache.block(cache.values, block, head);
                    for (&score, value) in scores.iter().zip(values.chunks_exact(width)) {
                        for (y, &value) in y.iter_mut().zip(&value[from..]) {
                            *y = M::add(score * factor, value, *y);
                        }
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
