//! Which experts a position takes, which positions an expert takes, and the sum over both: the router's work without the host.

use super::tiles::{Groups, TILE_ROWS};
use burn::tensor::DType;
use deepseek_ocr_core::ops::cube::{
    CubeTensor,
    cubecl::{self, prelude::*},
    empty,
};

/// Experts of a layer at most: each has a unit of a cube, and 256 fit everywhere.
pub(super) const MAX_EXPERTS: usize = 256;

/// Units of a cube that combines.
const UNITS: u32 = 128;

/// The best experts of each position with their probabilities among all.
///
/// # Shapes
/// - `scores`: `[positions, experts]`, f32, at least one of each
/// - output: `[positions, chosen]`; experts in i32, best first, the first among equals, and probabilities in f32
pub(super) fn choose(scores: &CubeTensor, chosen: usize) -> (CubeTensor, CubeTensor) {
    let [positions, experts] = scores.meta.shape().dims::<2>();
    let (indices, weights) =
        (empty(scores, [positions, chosen], DType::I32), empty(scores, [positions, chosen], DType::F32));
    // SAFETY: a cube's number is a position, a unit's an expert, and ranks are compared with the number of the chosen. Scores that
    // are not finite may leave places unwritten; those that read experts keep them within the stack.
    unsafe {
        choose_experts::launch_unchecked(
            &scores.client,
            CubeCount::Static(positions as u32, 1, 1),
            CubeDim::new_1d(experts as u32),
            scores.clone().into_tensor_arg(),
            indices.clone().into_tensor_arg(),
            weights.clone().into_tensor_arg(),
            experts,
            chosen,
        );
    }
    (indices, weights)
}

#[cube(launch_unchecked)]
fn choose_experts(
    scores: &Tensor<f32>,
    indices: &mut Tensor<i32>,
    weights: &mut Tensor<f32>,
    #[comptime] experts: usize,
    #[comptime] chosen: usize,
) {
    let (position, expert) = (CUBE_POS_X as usize, UNIT_POS as usize);
    let own = scores[position * experts + expert];
    let mut all = Shared::<[f32]>::new_slice(experts);
    let mut exponentials = Shared::<[f32]>::new_slice(experts);
    all[expert] = own;
    sync_cube();
    let mut highest = own;
    let mut rank = 0usize;
    for other in 0..experts {
        let score = all[other];
        highest = f32::max(highest, score);
        if score > own || (score == own && other < expert) {
            rank += 1usize;
        }
    }
    exponentials[expert] = f32::exp(own - highest);
    sync_cube();
    let mut sum = f32::new(0.0);
    for other in 0..experts {
        sum += exponentials[other];
    }
    if rank < chosen {
        indices[position * chosen + rank] = expert as i32;
        weights[position * chosen + rank] = exponentials[expert] / sum;
    }
}

/// The slots of `[positions, chosen]` by expert, cut into tiles.
///
/// # Shapes
/// - `indices`: `[positions, chosen]`, i32
pub(super) fn group(indices: &CubeTensor, experts: usize) -> Groups {
    let slots = indices.meta.num_elements();
    // Every expert may leave one tile unfilled, and a tile has at least one slot.
    let tiles = (slots / TILE_ROWS + experts).min(slots);
    let order = empty(indices, [slots], DType::I32);
    let table = empty(indices, [tiles, 3], DType::I32);
    // SAFETY: a unit writes as many places of `order` as it counted slots, and as many lines of the table as those fill;
    // experts that are none match no unit.
    unsafe {
        group_slots::launch_unchecked(
            &indices.client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(experts as u32),
            indices.clone().into_tensor_arg(),
            order.clone().into_tensor_arg(),
            table.clone().into_tensor_arg(),
            experts,
        );
    }
    Groups { order, table, share: 1 }
}

#[cube(launch_unchecked)]
fn group_slots(indices: &Tensor<i32>, order: &mut Tensor<i32>, table: &mut Tensor<i32>, #[comptime] experts: usize) {
    let own = UNIT_POS as usize;
    let expert = UNIT_POS as i32;
    let slots = order.shape(0);
    let mut count = 0usize;
    for slot in 0..slots {
        if indices[slot] == expert {
            count += 1usize;
        }
    }
    let mut counts = Shared::<[u32]>::new_slice(experts);
    counts[own] = count as u32;
    sync_cube();
    let mut start = 0usize;
    let mut line = 0usize;
    for before in 0..own {
        start += counts[before] as usize;
        line += (counts[before] as usize).div_ceil(TILE_ROWS);
    }
    let end = start + count;
    let mut next = start;
    for slot in 0..slots {
        if indices[slot] == expert {
            order[next] = slot as i32;
            next += 1usize;
        }
    }
    let mut first = start;
    while first < end {
        table[line * 3] = expert;
        table[line * 3 + 1] = first as i32;
        table[line * 3 + 2] = usize::min(first + TILE_ROWS, end) as i32;
        first += TILE_ROWS;
        line += 1usize;
    }
    // What is left over is empty.
    if own == comptime!(experts - 1) {
        while line < table.shape(0) {
            table[line * 3] = 0;
            table[line * 3 + 1] = 0;
            table[line * 3 + 2] = 0;
            line += 1usize;
        }
    }
}

/// `shared + sum of weight * routed`, each position's experts in their order.
///
/// # Shapes
/// - `shared`: `[positions, hidden]`
/// - `routed`: `[positions * chosen, hidden]`
/// - `weights`: `[positions, chosen]`
/// - output: `[positions, hidden]`
pub(super) fn combine(shared: &CubeTensor, routed: &CubeTensor, weights: &CubeTensor) -> CubeTensor {
    let ([positions, hidden], [_, chosen]) = (shared.meta.shape().dims::<2>(), weights.meta.shape().dims::<2>());
    let y = empty(shared, [positions, hidden], DType::F32);
    // SAFETY: units beyond the width stop, and the shapes are those of the caller's products.
    unsafe {
        weighted_sum::launch_unchecked(
            &shared.client,
            CubeCount::Static(positions as u32, (hidden as u32).div_ceil(UNITS), 1),
            CubeDim::new_1d(UNITS),
            shared.clone().into_tensor_arg(),
            routed.clone().into_tensor_arg(),
            weights.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            chosen,
        );
    }
    y
}

#[cube(launch_unchecked)]
fn weighted_sum(
    shared: &Tensor<f32>,
    routed: &Tensor<f32>,
    weights: &Tensor<f32>,
    y: &mut Tensor<f32>,
    #[comptime] chosen: usize,
) {
    let hidden = y.shape(1);
    let position = CUBE_POS_X as usize;
    let column = (CUBE_POS_Y * UNITS + UNIT_POS) as usize;
    if column >= hidden {
        terminate!();
    }
    let mut sum = shared[position * hidden + column];
    #[unroll]
    for i in 0..chosen {
        let slot = position * chosen + i;
        sum += weights[slot] * routed[slot * hidden + column];
    }
    y[position * hidden + column] = sum;
}
