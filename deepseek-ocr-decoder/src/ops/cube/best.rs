//! The best token of each row, chosen on the device: the host reads two numbers of a row instead of all its logits.
//!
//! A cube looks through a part of one row: for the best token that is not banned, and for the sum that makes a probability of its
//! logit. A second kernel joins the parts.

use crate::sampling::{ALL_BANNED, NOT_FINITE};
use burn::tensor::DType;
use deepseek_ocr_core::ops::cube::{
    CubeTensor,
    cubecl::{self, prelude::*},
    empty,
};

/// Units of a cube.
const UNITS: usize = 256;

/// Halvings of their results: its logarithm.
const HALVINGS: usize = 8;

/// Parts of a row: one row alone keeps as many cubes busy.
const PARTS: usize = 32;

/// Numbers of a part: the best token and its logit, the highest logit of all, and the sum of exponentials below it.
const MARKS: usize = 4;

/// Below every logit that matters.
const LOWEST: f32 = -3e38;

/// Exponents of numbers that are not finite, as bits.
const EXPONENT: i32 = 0x7f80_0000;

/// # Shapes
/// - `logits`: `[rows, vocab]`, f32
/// - `banned`: where each row's banned tokens begin in this tensor, where the last one's end, and then the tokens; i32
/// - output: `[rows, 2]`, f32: token, or a code, and probability
pub(super) fn best(logits: &CubeTensor, banned: &CubeTensor) -> CubeTensor {
    let [rows, _] = logits.meta.shape().dims::<2>();
    let marks = empty(logits, [rows, PARTS, MARKS], DType::F32);
    let y = empty(logits, [rows, 2], DType::F32);
    // SAFETY: a cube reads its part of its row, cut at the row's end, and the list of bans within the bounds that it begins with;
    // it writes its own marks.
    unsafe {
        best_of_part::launch_unchecked(
            &logits.client,
            CubeCount::Static(PARTS as u32, rows as u32, 1),
            CubeDim::new_1d(UNITS as u32),
            logits.clone().into_tensor_arg(),
            banned.clone().into_tensor_arg(),
            marks.clone().into_tensor_arg(),
        );
    }
    // SAFETY: a cube is a row, and reads and writes what that row has.
    unsafe {
        best_of_parts::launch_unchecked(
            &logits.client,
            CubeCount::Static(rows as u32, 1, 1),
            CubeDim::new_1d(1),
            marks.into_tensor_arg(),
            y.clone().into_tensor_arg(),
        );
    }
    y
}

#[cube(launch_unchecked)]
fn best_of_part(logits: &Tensor<f32>, banned: &Tensor<i32>, marks: &mut Tensor<f32>) {
    let (part, row, own) = (CUBE_POS_X as usize, CUBE_POS_Y as usize, UNIT_POS as usize);
    let vocab = logits.shape(1);
    let size = vocab.div_ceil(PARTS);
    let end = usize::min((part + 1) * size, vocab);
    let mut id = i32::new(ALL_BANNED as i64);
    let mut logit = f32::new(LOWEST);
    let mut highest = f32::new(LOWEST);
    let mut sum = f32::new(0.0);
    let mut at = part * size + own;
    while at < end {
        let x = logits[row * vocab + at];
        if (i32::reinterpret(x) & EXPONENT) == EXPONENT {
            id = i32::new(NOT_FINITE as i64);
        }
        let before = highest;
        highest = f32::max(highest, x);
        sum = sum * f32::exp(before - highest) + f32::exp(x - highest);
        // The list is looked through for tokens alone that would be the best so far.
        if wins(at as i32, x, id, logit) && !is_banned(banned, row, at as i32) {
            id = at as i32;
            logit = x;
        }
        at += UNITS;
    }
    let mut ids = Shared::<[i32]>::new_slice(UNITS);
    let mut bests = Shared::<[f32]>::new_slice(UNITS);
    let mut highests = Shared::<[f32]>::new_slice(UNITS);
    let mut sums = Shared::<[f32]>::new_slice(UNITS);
    ids[own] = id;
    bests[own] = logit;
    highests[own] = highest;
    sums[own] = sum;
    sync_cube();
    #[unroll]
    for halving in 0..HALVINGS {
        let distance = comptime!(UNITS >> (halving + 1));
        if own < distance {
            let other = own + distance;
            if wins(ids[other], bests[other], ids[own], bests[own]) {
                ids[own] = ids[other];
                bests[own] = bests[other];
            }
            let top = f32::max(highests[own], highests[other]);
            sums[own] = sums[own] * f32::exp(highests[own] - top) + sums[other] * f32::exp(highests[other] - top);
            highests[own] = top;
        }
        sync_cube();
    }
    if own == 0 {
        let to = (row * PARTS + part) * MARKS;
        marks[to] = ids[0] as f32;
        marks[to + 1] = bests[0];
        marks[to + 2] = highests[0];
        marks[to + 3] = sums[0];
    }
}

#[cube(launch_unchecked)]
fn best_of_parts(marks: &Tensor<f32>, y: &mut Tensor<f32>) {
    let row = CUBE_POS_X as usize;
    let start = row * PARTS * MARKS;
    let mut id = i32::new(ALL_BANNED as i64);
    let mut logit = f32::new(LOWEST);
    let mut highest = f32::new(LOWEST);
    let mut sum = f32::new(0.0);
    for part in 0..PARTS {
        let from = start + part * MARKS;
        let other = marks[from] as i32;
        if wins(other, marks[from + 1], id, logit) {
            id = other;
            logit = marks[from + 1];
        }
        let before = highest;
        highest = f32::max(highest, marks[from + 2]);
        sum = sum * f32::exp(before - highest) + marks[from + 3] * f32::exp(marks[from + 2] - highest);
    }
    y[row * 2] = id as f32;
    y[row * 2 + 1] = f32::exp(logit - highest) / sum;
}

/// Whether a token, or a code, stands before another: a number that is not finite before all, then the higher logit, then the lower
/// token, and any token before none.
#[cube]
fn wins(id: i32, logit: f32, other: i32, other_logit: f32) -> bool {
    let none = i32::new(ALL_BANNED as i64);
    let broken = i32::new(NOT_FINITE as i64);
    let (key, other_key) = (rank(logit), rank(other_logit));
    let better = other == none || key > other_key || (key == other_key && id < other);
    id == broken || (other != broken && id != none && better)
}

/// Numbers in their order as whole ones, zero above minus zero: as the host has it.
#[cube]
fn rank(x: f32) -> i32 {
    let bits = i32::reinterpret(x);
    select(bits < 0, bits ^ i32::new(0x7fff_ffff), bits)
}

#[cube]
fn is_banned(banned: &Tensor<i32>, row: usize, id: i32) -> bool {
    let mut found = false;
    for at in banned[row] as usize..banned[row + 1] as usize {
        if banned[at] == id {
            found = true;
        }
    }
    found
}
