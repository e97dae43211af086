//! Gated layers over slices: dense ones, and the experts of a mixture grouped by expert.
//!
//! Every expert is a task whose products divide themselves further, so that threads are busy however many experts are
//! touched; an expert's weights are read once for all its positions.

use super::vector::{self, AddScaled};
use deepseek_ocr_core::ops::flex::{Kernel, Matrix};
use rayon::prelude::*;

/// Positions whose sums one task makes.
const POSITIONS_PER_TASK: usize = 16;

/// The weights of a gated layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gated<'a> {
    /// `[width, hidden]`.
    pub(super) gate: Matrix<'a>,
    /// `[width, hidden]`.
    pub(super) up: Matrix<'a>,
    /// `[hidden, width]`.
    pub(super) down: Matrix<'a>,
}

/// A routed expert with the positions that chose it and its weight in each.
#[derive(Debug)]
pub(super) struct Routed<'a> {
    pub(super) expert: Gated<'a>,
    pub(super) slots: &'a [(usize, f32)],
}

/// `y = shared(x) + sum of weight * routed(x)`, each position's experts in the order of `routed`.
///
/// # Shapes
/// - `x`, `y`: `[positions, hidden]`
pub(super) fn mix(kernel: Kernel, x: &[f32], shared: &Gated<'_>, routed: &[Routed<'_>], y: &mut [f32]) {
    let hidden = shared.down.outputs();
    let run = |routed: &Routed<'_>| {
        let mut out = vec![0.0; routed.slots.len() * hidden];
        routed.expert.forward(kernel, &routed.gather(x, hidden), &mut out);
        out
    };
    let (outs, ()) =
        rayon::join(|| routed.par_iter().with_max_len(1).map(run).collect::<Vec<_>>(), || shared.forward(kernel, x, y));
    let mut terms = vec![Vec::new(); y.len() / hidden];
    for (routed, out) in routed.iter().zip(&outs) {
        for (&(position, weight), out) in routed.slots.iter().zip(out.chunks_exact(hidden)) {
            terms[position].push((weight, out));
        }
    }
    let add = |(y, terms): (&mut [f32], &Vec<(f32, &[f32])>)| {
        for &(factor, x) in terms {
            vector::run(kernel.isa(), AddScaled { y, factor, x });
        }
    };
    y.par_chunks_exact_mut(hidden).zip(&terms).with_min_len(POSITIONS_PER_TASK).for_each(add);
}

impl Gated<'_> {
    /// # Shapes
    /// - `x`, `y`: `[rows, hidden]`
    pub(super) fn forward(&self, kernel: Kernel, x: &[f32], y: &mut [f32]) {
        let numbers = y.len() / self.down.outputs() * self.gate.outputs();
        let (mut gate, mut up) = (vec![0.0; numbers], vec![0.0; numbers]);
        rayon::join(|| kernel.linear(x, self.gate, None, &mut gate), || kernel.linear(x, self.up, None, &mut up));
        kernel.silu_gate(&mut gate, &up);
        kernel.linear(&gate, self.down, None, y);
    }
}

impl Routed<'_> {
    /// The rows of its positions, one after the other.
    fn gather(&self, x: &[f32], hidden: usize) -> Vec<f32> {
        let mut rows = Vec::with_capacity(self.slots.len() * hidden);
        for &(position, _) in self.slots {
            rows.extend_from_slice(&x[position * hidden..][..hidden]);
        }
        rows
    }
}
