//! Products of few rows: a group of units streams one row of the weights for one row of activations.
//!
//! The weights are read at the memory's speed and nothing is copied. Each row may have a matrix of its own in a stack: the routed
//! experts of a decoder's step. Sums are made in one order, whatever stands beside a row.

use super::{
    CubeTensor, cubecl, element, empty, lanes,
    parts::{lane_sum, silu},
};
use burn::tensor::DType;
use cubecl::prelude::*;

/// Units that add up one output together.
const GROUP: u32 = 32;

/// Halvings of a group's sums: its logarithm.
const HALVINGS: u32 = 5;

/// Outputs of one cube, with a group each.
const OUTPUTS: u32 = 8;

/// Which activations and which matrix of a stack each row takes.
#[derive(Debug)]
pub struct Gather {
    /// `[rows]`, i32: the row's matrix; unused where there is one.
    matrices: CubeTensor,
    /// How many rows share one row of activations.
    share: usize,
    rows: usize,
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Plan {
    /// Reads of a whole group and one unit's part.
    vectors: usize,
    share: usize,
    stacked: bool,
}

impl Gather {
    /// Every row of `x` goes through one matrix.
    pub fn none(x: &CubeTensor) -> Self {
        let rows = x.meta.shape()[0];
        Self { matrices: empty(x, [1], DType::I32), share: 1, rows }
    }

    /// Row `i` goes through matrix `matrices[i]`, with row `i / share` of the activations. Matrices are `[rows]`, i32.
    pub fn new(matrices: CubeTensor, share: usize) -> Self {
        let rows = matrices.meta.num_elements();
        Self { matrices, share, rows }
    }
}

/// `x W^T`, each row with the matrix that it takes.
///
/// # Shapes
/// - `x`: `[rows / share, inputs]`, f32
/// - `weight`: `[outputs, inputs]` or `[matrices, outputs, inputs]`; bf16, f16 or f32
/// - output: `[rows, outputs]`, f32
pub fn products(x: &CubeTensor, weight: &CubeTensor, gather: &Gather) -> CubeTensor {
    let launch = Launch::new(x, [weight, weight], gather);
    // SAFETY: units beyond the outputs read the last one and write nothing; rows, matrices and vectors are within their
    // tensors by the shapes that `Launch::new` compares, and matrices are kept below the height of the stack.
    unsafe {
        row_products::launch_unchecked(
            &x.client,
            launch.count,
            CubeDim::new_2d(GROUP, OUTPUTS),
            launch.lanes,
            x.clone().into_tensor_arg(),
            weight.clone().into_tensor_arg(),
            gather.matrices.clone().into_tensor_arg(),
            launch.y.clone().into_tensor_arg(),
            launch.plan,
            element(weight),
        );
    }
    launch.y
}

/// `silu(x gate^T) * (x up^T)`, as [`products`].
///
/// # Shapes
/// - `x`: `[rows / share, inputs]`, f32
/// - `gate`, `up`: `[outputs, inputs]` or `[matrices, outputs, inputs]`, of one type
/// - output: `[rows, outputs]`, f32
pub fn gated(x: &CubeTensor, [gate, up]: [&CubeTensor; 2], gather: &Gather) -> CubeTensor {
    let launch = Launch::new(x, [gate, up], gather);
    // SAFETY: as in `products`.
    unsafe {
        row_gated::launch_unchecked(
            &x.client,
            launch.count,
            CubeDim::new_2d(GROUP, OUTPUTS),
            launch.lanes,
            x.clone().into_tensor_arg(),
            gate.clone().into_tensor_arg(),
            up.clone().into_tensor_arg(),
            gather.matrices.clone().into_tensor_arg(),
            launch.y.clone().into_tensor_arg(),
            launch.plan,
            element(gate),
        );
    }
    launch.y
}

/// The parts of a launch that both kernels have.
struct Launch {
    count: CubeCount,
    lanes: usize,
    plan: Plan,
    y: CubeTensor,
}

impl Launch {
    fn new(x: &CubeTensor, weights: [&CubeTensor; 2], gather: &Gather) -> Self {
        let [first, second] = weights.map(|weight| weight.meta.shape());
        assert_eq!(first, second, "gate and up have one shape");
        assert_eq!(weights[0].dtype, weights[1].dtype, "gate and up have one type");
        let rank = first.num_dims();
        let (outputs, inputs, rows) = (first[rank - 2], first[rank - 1], gather.rows);
        assert_eq!(x.meta.shape()[1], inputs, "a weight of {outputs} x {inputs} takes as many inputs");
        assert_eq!(x.meta.shape()[0] * gather.share, rows, "each {} rows share one of the activations", gather.share);
        let distances = weights.iter().flat_map(|weight| weight.meta.strides()[..rank - 1].iter().copied());
        let lanes = lanes(distances.chain([inputs]));
        let plan = Plan { vectors: inputs / lanes, share: gather.share, stacked: rank == 3 };
        // Rows come first, so that cubes that run at once read the same weights.
        let count = CubeCount::Static(rows as u32, (outputs as u32).div_ceil(OUTPUTS), 1);
        Self { count, lanes, plan, y: empty(x, [rows, outputs], DType::F32) }
    }
}

#[cube(launch_unchecked)]
fn row_products<W: Float, N: Size>(
    x: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<W, N>>,
    matrices: &Tensor<i32>,
    y: &mut Tensor<f32>,
    #[comptime] plan: Plan,
    #[define(W)] _element: ElemType,
) {
    let row = CUBE_POS_X as usize;
    let outputs = y.shape(1);
    let output = (CUBE_POS_Y * OUTPUTS + UNIT_POS_Y) as usize;
    let read = usize::min(output, outputs - 1);
    let start = weight_start(weight, matrices, row, read, plan);
    let part = partial::<W, N>(x, weight, row / plan.share * plan.vectors, start, plan.vectors);
    let mut sums = Shared::<[f32]>::new_slice((GROUP * OUTPUTS) as usize);
    let sum = total(part, &mut sums);
    if UNIT_POS_X == 0 && output < outputs {
        y[row * outputs + output] = sum;
    }
}

#[cube(launch_unchecked)]
fn row_gated<W: Float, N: Size>(
    x: &Tensor<Vector<f32, N>>,
    gate: &Tensor<Vector<W, N>>,
    up: &Tensor<Vector<W, N>>,
    matrices: &Tensor<i32>,
    y: &mut Tensor<f32>,
    #[comptime] plan: Plan,
    #[define(W)] _element: ElemType,
) {
    let row = CUBE_POS_X as usize;
    let outputs = y.shape(1);
    let output = (CUBE_POS_Y * OUTPUTS + UNIT_POS_Y) as usize;
    let read = usize::min(output, outputs - 1);
    let from = row / plan.share * plan.vectors;
    let gate_part = partial::<W, N>(x, gate, from, weight_start(gate, matrices, row, read, plan), plan.vectors);
    let up_part = partial::<W, N>(x, up, from, weight_start(up, matrices, row, read, plan), plan.vectors);
    let mut gate_sums = Shared::<[f32]>::new_slice((GROUP * OUTPUTS) as usize);
    let mut up_sums = Shared::<[f32]>::new_slice((GROUP * OUTPUTS) as usize);
    let gate_sum = total(gate_part, &mut gate_sums);
    let up_sum = total(up_part, &mut up_sums);
    if UNIT_POS_X == 0 && output < outputs {
        y[row * outputs + output] = silu(gate_sum) * up_sum;
    }
}

/// Where an output's row of weights begins, in vectors.
#[cube]
fn weight_start<W: Float, N: Size>(
    weight: &Tensor<Vector<W, N>>,
    matrices: &Tensor<i32>,
    row: usize,
    output: usize,
    #[comptime] plan: Plan,
) -> usize {
    if comptime!(plan.stacked) {
        // Numbers that come of scores that are not finite stay within the stack.
        let matrix = usize::min(matrices[row] as usize, weight.shape(0) - 1);
        (matrix * weight.stride(0) + output * weight.stride(1)) / N::value()
    } else {
        output * weight.stride(0) / N::value()
    }
}

/// A unit's part of a sum over the inputs.
#[cube]
fn partial<W: Float, N: Size>(
    x: &Tensor<Vector<f32, N>>,
    weight: &Tensor<Vector<W, N>>,
    x_start: usize,
    weight_start: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut sums = Vector::<f32, N>::new(f32::new(0.0));
    let mut at = UNIT_POS_X as usize;
    while at < vectors {
        sums += x[x_start + at] * Vector::cast_from(weight[weight_start + at]);
        at += GROUP as usize;
    }
    lane_sum::<N>(sums)
}

/// The sum of a group's parts, for each of its units.
#[cube]
fn total(part: f32, sums: &mut Shared<[f32]>) -> f32 {
    let at = UNIT_POS as usize;
    sums[at] = part;
    sync_cube();
    #[unroll]
    for halving in 0..HALVINGS {
        let distance = comptime!(GROUP >> (halving + 1));
        if UNIT_POS_X < distance {
            let other = sums[at + distance as usize];
            sums[at] += other;
        }
        sync_cube();
    }
    sums[(UNIT_POS_Y * GROUP) as usize]
}
