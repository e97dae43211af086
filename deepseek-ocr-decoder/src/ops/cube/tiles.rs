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
    /// Of a cube.
    outputs: usize,
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
    Launch { x, weight, up: None, groups }.run()
}

/// `silu(x gate^T) * (x up^T)`, as [`products`].
pub(super) fn gated(x: &CubeTensor, [gate, up]: [&CubeTensor; 2], groups: Option<&Groups>) -> CubeTensor {
    assert!(gate.meta.shape() == up.meta.shape() && gate.dtype == up.dtype, "gate and up have one shape and type");
    Launch { x, weight: gate, up: Some(up), groups }.run()
}

struct Launch<'a> {
    x: &'a CubeTensor,
    /// The matrix, or the gate.
    weight: &'a CubeTensor,
    up: Option<&'a CubeTensor>,
    groups: Option<&'a Groups>,
}

impl Launch<'_> {
    fn run(self) -> CubeTensor {
        let Self { x, weight, up, groups } = self;
        let shape = weight.meta.shape();
        let rank = shape.num_dims();
        let (outputs, inputs) = (shape[rank - 2], shape[rank - 1]);
        assert_eq!(x.meta.shape()[1], inputs, "a weight of {outputs} x {inputs} takes as many inputs");
        assert_eq!(rank == 3, groups.is_some(), "a stack goes with groups");
        let rows = groups.map_or(x.meta.shape()[0], |groups| groups.order.meta.num_elements());
        let tiles = groups.map_or(rows.div_ceil(TILE_ROWS), |groups| groups.table.meta.shape()[0]);
        let distances = [Some(weight), up].into_iter().flatten().flat_map(|weight| &weight.meta.strides()[..rank - 1]);
        let lanes = lanes(distances.copied().chain([inputs, DEPTH]));
        let plan = Plan::new(inputs, lanes, groups, up);
        let y = empty(x, [rows, outputs], DType::F32);
        // What nothing reads is bound, too: to a buffer of its own that holds a vector at least.
        let no_weight = empty(x, [1, DEPTH], weight.dtype);
        let (no_order, no_table) = (empty(x, [1], DType::I32), empty(x, [1], DType::I32));
        let (order, table) = groups.map_or((&no_order, &no_table), |groups| (&groups.order, &groups.table));
        // SAFETY: rows beyond a tile's end, outputs beyond the last and inputs beyond a row's end are zeros that nothing reads,
        // and are not written; tiles and their rows come from `group`, and matrices are below the stack's height there.
        unsafe {
            tile_products::launch_unchecked(
                &x.client,
                CubeCount::Static(outputs.div_ceil(plan.outputs) as u32, tiles as u32, 1),
                CubeDim::new_2d(UNITS[0], UNITS[1]),
                lanes,
                x.clone().into_tensor_arg(),
                weight.clone().into_tensor_arg(),
                up.unwrap_or(&no_weight).clone().into_tensor_arg(),
                order.clone().into_tensor_arg(),
                table.clone().into_tensor_arg(),
                y.clone().into_tensor_arg(),
                plan,
                element(weight),
            );
        }
        y
    }
}

impl Plan {
    fn new(inputs: usize, lanes: usize, groups: Option<&Groups>, up: Option<&CubeTensor>) -> Self {
        let depth = DEPTH / lanes;
        Self {
            vectors: inputs / lanes,
            depth,
            pitch: depth + 1,
            outputs: if up.is_some() { TILE_WEIGHTS / 2 } else { TILE_WEIGHTS },
            share: groups.map_or(1, |groups| groups.share),
            grouped: groups.is_some(),
            gated: up.is_some(),
        }
    }
}

/// Which part of the output a cube makes.
#[derive(CubeType)]
struct Tile {
    matrix: usize,
    /// Rows, as the order has them.
    start: usize,
    end: usize,
    /// The first output.
    first: usize,
}

#[cube(launch_unchecked)]
fn tile_products<W: Float, N: Size>(
    x: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<W, N>>,
    up: &Tensor<Vector<W, N>>,
    order: &Tensor<i32>,
    table: &Tensor<i32>,
    y: &mut Tensor<f32>,
    #[comptime] plan: Plan,
    #[define(W)] _element: ElemType,
) {
    let line = CUBE_POS_Y as usize;
    let first = CUBE_POS_X as usize * plan.outputs;
    let (matrix, start, end) = if comptime!(plan.grouped) {
        (table[line * 3] as usize, table[line * 3 + 1] as usize, table[line * 3 + 2] as usize)
    } else {
        (0usize, line * TILE_ROWS, usize::min((line + 1) * TILE_ROWS, y.shape(0)))
    };
    let tile = Tile { matrix, start, end, first };
    if start < end {
        let mut xs = Shared::<[Vector<f32, N>]>::new_slice(comptime!(TILE_ROWS * plan.pitch));
        let mut ws = Shared::<[Vector<f32, N>]>::new_slice(comptime!(TILE_WEIGHTS * plan.pitch));
        let mut sums = Array::<Vector<f32, N>>::new(comptime!(OWN * OWN));
        for step in 0..comptime!(plan.vectors.div_ceil(plan.depth)) {
            let from = step * plan.depth;
            sync_cube();
            carry_rows::<N>(x, order, &mut xs, &tile, from, plan);
            carry_weights::<W, N>(weight, up, &mut ws, &tile, from, plan);
            sync_cube();
            add_products::<N>(&xs, &ws, &mut sums, plan);
        }
        write_sums::<N>(&sums, order, y, &tile, plan);
    }
}

/// A tile's rows of activations, some inputs of each, to shared memory.
#[cube]
fn carry_rows<N: Size>(
    x: &Tensor<Vector<f32, N>>,
    order: &Tensor<i32>,
    xs: &mut Shared<[Vector<f32, N>]>,
    tile: &Tile,
    from: usize,
    #[comptime] plan: Plan,
) {
    let mut load = UNIT_POS as usize;
    while load < comptime!(TILE_ROWS * plan.depth) {
        let (row, part) = (load / plan.depth, load % plan.depth);
        let mut numbers = Vector::<f32, N>::new(f32::new(0.0));
        if tile.start + row < tile.end && from + part < plan.vectors {
            numbers = x[row_of(order, tile.start + row, plan) / plan.share * plan.vectors + from + part];
        }
        xs[row * plan.pitch + part] = numbers;
        load += comptime!((UNITS[0] * UNITS[1]) as usize);
    }
}

/// A tile's rows of weights, some inputs of each, to shared memory: those of the gate before those of the other matrix.
#[cube]
fn carry_weights<W: Float, N: Size>(
    weight: &Tensor<Vector<W, N>>,
    up: &Tensor<Vector<W, N>>,
    ws: &mut Shared<[Vector<f32, N>]>,
    tile: &Tile,
    from: usize,
    #[comptime] plan: Plan,
) {
    let outputs = weight.shape(comptime!(if plan.grouped { 1 } else { 0 }));
    let mut load = UNIT_POS as usize;
    while load < comptime!(TILE_WEIGHTS * plan.depth) {
        let (row, part) = (load / plan.depth, load % plan.depth);
        let output = tile.first + row % plan.outputs;
        let mut numbers = Vector::<f32, N>::new(f32::new(0.0));
        if output < outputs && from + part < plan.vectors {
            if row < plan.outputs {
                numbers = Vector::cast_from(weight[weight_start(weight, tile.matrix, output, plan) + from + part]);
            } else {
                numbers = Vector::cast_from(up[weight_start(up, tile.matrix, output, plan) + from + part]);
            }
        }
        ws[row * plan.pitch + part] = numbers;
        load += comptime!((UNITS[0] * UNITS[1]) as usize);
    }
}

/// What shared memory holds, to a unit's sums.
#[cube]
fn add_products<N: Size>(
    xs: &Shared<[Vector<f32, N>]>,
    ws: &Shared<[Vector<f32, N>]>,
    sums: &mut Array<Vector<f32, N>>,
    #[comptime] plan: Plan,
) {
    let (across, down) = (UNIT_POS_X as usize, UNIT_POS_Y as usize);
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

/// A unit's sums to the rows that they are of.
#[cube]
fn write_sums<N: Size>(
    sums: &Array<Vector<f32, N>>,
    order: &Tensor<i32>,
    y: &mut Tensor<f32>,
    tile: &Tile,
    #[comptime] plan: Plan,
) {
    let outputs = y.shape(1);
    #[unroll]
    for i in 0..OWN {
        let row = tile.start + UNIT_POS_Y as usize + i * UNITS[1] as usize;
        if row < tile.end {
            let to = row_of(order, row, plan) * outputs;
            #[unroll]
            for j in 0..comptime!(if plan.gated { OWN / 2 } else { OWN }) {
                let output = tile.first + UNIT_POS_X as usize + j * UNITS[0] as usize;
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
