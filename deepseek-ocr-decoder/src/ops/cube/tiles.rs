//! Products of many rows in tiles, one matrix for all or one of a stack for each group of rows.
//!
//! A cube makes a tile of outputs: its units carry the tile's parts of activations and weights through shared memory, and each sums
//! sixteen outputs in registers. Sums are made in one order, whatever stands beside a row.

use burn::tensor::DType;
use deepseek_ocr_core::ops::cube::{
    CubeTensor,
    cubecl::{self, ir::ElemType, prelude::*},
    element, empty, lanes,
    parts::{lane_sum, silu},
};

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 32;

/// Rows of weights in a tile: outputs, or half as many of two matrices.
const TILE_WEIGHTS: usize = 64;

/// Inputs that shared memory holds at once.
const DEPTH: usize = 16;

/// Units of a cube, across a tile's outputs and its rows.
const UNITS: [u32; 2] = [16, 8];

/// Rows and outputs of one unit.
const OWN: usize = 4;

/// Rows by the matrix that they take.
#[derive(Debug, Clone)]
pub(super) struct Groups {
    /// `[rows]`, i32: the outputs' rows, those of one matrix together.
    pub(super) order: CubeTensor,
    /// `[tiles, 3]`, i32: a matrix and where in `order` its tile begins and ends.
    pub(super) table: CubeTensor,
    /// How many rows share one row of activations.
    pub(super) share: usize,
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Plan {
    /// Reads of one row.
    vectors: usize,
    /// Reads of one row's part in shared memory.
    depth: usize,
    /// From one row's part to the next: one more, so that neighbours are in other banks.
    pitch: usize,
    share: usize,
    grouped: bool,
    gated: bool,
}

/// `x W^T`.
///
/// # Shapes
/// - `x`: `[rows / share, inputs]`, f32
/// - `weight`: `[outputs, inputs]`, or `[matrices, outputs, inputs]` with groups; bf16, f16 or f32
/// - output: `[rows, outputs]`, f32
pub(super) fn products(x: &CubeTensor, weight: &CubeTensor, groups: Option<&Groups>) -> CubeTensor {
    // Read by nothing, but a buffer may be bound once only and holds a vector at least.
    let other = empty(x, [1, DEPTH], weight.dtype);
    launch(x, [weight, &other], groups, false)
}

/// `silu(x gate^T) * (x up^T)`, as [`products`].
pub(super) fn gated(x: &CubeTensor, weights: [&CubeTensor; 2], groups: Option<&Groups>) -> CubeTensor {
    launch(x, weights, groups, true)
}

fn launch(x: &CubeTensor, [weight, other]: [&CubeTensor; 2], groups: Option<&Groups>, gated: bool) -> CubeTensor {
    let shape = weight.meta.shape();
    let rank = shape.num_dims();
    let (outputs, inputs) = (shape[rank - 2], shape[rank - 1]);
    assert_eq!(x.meta.shape()[1], inputs, "a weight of {outputs} x {inputs} takes as many inputs");
    assert_eq!(rank == 3, groups.is_some(), "a stack goes with groups");
    assert!(
        !gated || other.meta.shape() == shape && other.dtype == weight.dtype,
        "gate and up have one shape and type"
    );
    let rows = groups.map_or(x.meta.shape()[0], |groups| groups.order.meta.num_elements());
    let tiles = groups.map_or(rows.div_ceil(TILE_ROWS), |groups| groups.table.meta.shape()[0]);
    let distances = |weight: &CubeTensor| weight.meta.strides()[..rank - 1].to_vec();
    let apart = if gated { distances(other) } else { Vec::new() };
    let lanes = lanes(distances(weight).into_iter().chain(apart).chain([inputs, DEPTH]));
    let share = groups.map_or(1, |groups| groups.share);
    let depth = DEPTH / lanes;
    let plan = Plan { vectors: inputs / lanes, depth, pitch: depth + 1, share, grouped: groups.is_some(), gated };
    let y = empty(x, [rows, outputs], DType::F32);
    let unused = || empty(x, [1], DType::I32);
    let (order, table) = groups.map_or_else(|| (unused(), unused()), |g| (g.order.clone(), g.table.clone()));
    let outputs_per_cube = if gated { TILE_WEIGHTS / 2 } else { TILE_WEIGHTS };
    // SAFETY: rows beyond a tile's end, outputs beyond the last and inputs beyond a row's end are zeros that nothing reads, and
    // are not written; tiles and their rows come from `group`, and matrices are below the stack's height there.
    unsafe {
        tile_products::launch_unchecked(
            &x.client,
            CubeCount::Static(outputs.div_ceil(outputs_per_cube) as u32, tiles as u32, 1),
            CubeDim::new_2d(UNITS[0], UNITS[1]),
            lanes,
            x.clone().into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            other.clone().into_tensor_arg(),
            order.into_tensor_arg(),
            table.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            plan,
            element(weight),
        );
    }
    y
}

#[cube(launch_unchecked)]
fn tile_products<W: Float, N: Size>(
    x: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<W, N>>,
    other: &Tensor<Vector<W, N>>,
    order: &Tensor<i32>,
    table: &Tensor<i32>,
    y: &mut Tensor<f32>,
    #[comptime] plan: Plan,
    #[define(W)] _element: ElemType,
) {
    let (rows, outputs) = (y.shape(0), y.shape(1));
    let tile = CUBE_POS_Y as usize;
    let (matrix, start, end) = if comptime!(plan.grouped) {
        (table[tile * 3] as usize, table[tile * 3 + 1] as usize, table[tile * 3 + 2] as usize)
    } else {
        (0usize, tile * TILE_ROWS, usize::min((tile + 1) * TILE_ROWS, rows))
    };
    if start < end {
        let per_cube = comptime!(if plan.gated { TILE_WEIGHTS / 2 } else { TILE_WEIGHTS });
        let first_output = CUBE_POS_X as usize * per_cube;
        let mut xs = Shared::<[Vector<f32, N>]>::new_slice(comptime!(TILE_ROWS * plan.pitch));
        let mut ws = Shared::<[Vector<f32, N>]>::new_slice(comptime!(TILE_WEIGHTS * plan.pitch));
        let mut sums = Array::<Vector<f32, N>>::new(comptime!(OWN * OWN));
        let (across, down) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
        for step in 0..comptime!(plan.vectors.div_ceil(plan.depth)) {
            sync_cube();
            let mut load = UNIT_POS as usize;
            while load < comptime!(TILE_ROWS * plan.depth) {
                let (row, part) = (load / plan.depth, load % plan.depth);
                let at = step * plan.depth + part;
                let mut numbers = Vector::<f32, N>::new(f32::new(0.0));
                if start + row < end && at < plan.vectors {
                    numbers = x[row_of(order, start + row, plan) / plan.share * plan.vectors + at];
                }
                xs[row * plan.pitch + part] = numbers;
                load += comptime!((UNITS[0] * UNITS[1]) as usize);
            }
            let mut load = UNIT_POS as usize;
            while load < comptime!(TILE_WEIGHTS * plan.depth) {
                let (row, part) = (load / plan.depth, load % plan.depth);
                let at = step * plan.depth + part;
                let output = first_output + row % per_cube;
                let mut numbers = Vector::<f32, N>::new(f32::new(0.0));
                if output < outputs && at < plan.vectors {
                    if comptime!(plan.gated) {
                        if row < per_cube {
                            numbers = Vector::cast_from(weight[weight_start(weight, matrix, output, plan) + at]);
                        } else {
                            numbers = Vector::cast_from(other[weight_start(other, matrix, output, plan) + at]);
                        }
                    } else {
                        numbers = Vector::cast_from(weight[weight_start(weight, matrix, output, plan) + at]);
                    }
                }
                ws[row * plan.pitch + part] = numbers;
                load += comptime!((UNITS[0] * UNITS[1]) as usize);
            }
            sync_cube();
            #[unroll]
            for part in 0..plan.depth {
                let mut ours = Array::<Vector<f32, N>>::new(OWN);
                #[unroll]
                for i in 0..OWN {
                    ours[i] = xs[(down + i * UNITS[1] as usize) * plan.pitch + part];
                }
                #[unroll]
                for j in 0..OWN {
                    let theirs = ws[(across + j * UNITS[0] as usize) * plan.pitch + part];
                    #[unroll]
                    for i in 0..OWN {
                        sums[i * OWN + j] += ours[i] * theirs;
                    }
                }
            }
        }
        #[unroll]
        for i in 0..OWN {
            let row = start + down + i * UNITS[1] as usize;
            if row < end {
                let to = row_of(order, row, plan) * outputs;
                #[unroll]
                for j in 0..comptime!(if plan.gated { OWN / 2 } else { OWN }) {
                    let output = first_output + across + j * UNITS[0] as usize;
                    let sum = lane_sum::<N>(sums[i * OWN + j]);
                    if output < outputs {
                        if comptime!(plan.gated) {
                            y[to + output] = silu(sum) * lane_sum::<N>(sums[i * OWN + j + comptime!(OWN / 2)]);
                        } else {
                            y[to + output] = sum;
                        }
                    }
                }
            }
        }
    }
}

/// The output's row at this place of the order.
#[cube]
fn row_of(order: &Tensor<i32>, at: usize, #[comptime] plan: Plan) -> usize {
    if comptime!(plan.grouped) { order[at] as usize } else { at }
}

/// Where an output's row of weights begins, in vectors.
#[cube]
fn weight_start<W: Float, N: Size>(
    weight: &Tensor<Vector<W, N>>,
    matrix: usize,
    output: usize,
    #[comptime] plan: Plan,
) -> usize {
    if comptime!(plan.grouped) {
        (matrix * weight.stride(0) + output * weight.stride(1)) / N::value()
    } else {
        output * weight.stride(0) / N::value()
    }
}
