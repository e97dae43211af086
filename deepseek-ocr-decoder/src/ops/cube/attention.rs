//! One position in each of several rows: turned and written to the cache where it lies, then attention over the row's blocks.
//!
//! Blocks are found in a table on the device, so that nothing of the cache is copied. A cube attends over a part of one row for one
//! head, of the same size whatever the rows beside it, and a second kernel joins the parts by their highest scores and sums
//! (flash decoding): a single long row keeps many cubes busy, too.

use crate::cache::BLOCK;
use burn::tensor::DType;
use deepseek_ocr_core::ops::cube::{
    CubeTensor,
    cubecl::{self, prelude::*},
    empty, lanes,
    parts::{cube_highest, cube_sum, lane_sum},
};

/// Units of a cube.
const UNITS: usize = 128;

/// Positions of a part: a unit weighs one each.
const PART: usize = UNITS;

/// Units that multiply one key with the query.
const SHARE: usize = 8;

/// Halvings of a part: its logarithm.
const HALVINGS: u32 = 7;

/// Below every score; its exponential is zero. Not all targets know infinity.
const LOWEST: f32 = -1e30;

/// What the kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Plan {
    heads: usize,
    /// Reads of one head.
    vectors: usize,
    /// The bits of `1 / sqrt(width)`: floats have no hash.
    scale: u32,
}

/// Writes keys and values to a pool and gives the queries; keys and queries are turned.
///
/// # Shapes
/// - `queries`, `keys`, `values`: `[rows, heads, width]`
/// - `turns`: cosines and sines, `[rows, 1, width / 2]`
/// - `table`: see [`Places`](crate::Places)
/// - `pool`: keys and values, `[blocks, heads, BLOCK, width]`
/// - output: `[rows, heads, width]`
pub(super) fn append(
    [queries, keys, values]: [CubeTensor; 3],
    turns: [CubeTensor; 2],
    table: CubeTensor,
    pool: &[CubeTensor; 2],
) -> CubeTensor {
    let [rows, heads, width] = queries.meta.shape().dims::<3>();
    let turned = empty(&queries, [rows, heads, width], DType::F32);
    let count = (rows * heads * width / 2).div_ceil(UNITS);
    let [cos, sin] = turns;
    // SAFETY: units beyond the last pair stop; positions and blocks of the table are the cache's own, which reserved them.
    unsafe {
        append_turned::launch_unchecked(
            &queries.client,
            CubeCount::Static(count as u32, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            queries.clone().into_tensor_arg(),
            keys.into_tensor_arg(),
            values.into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            table.into_tensor_arg(),
            turned.clone().into_tensor_arg(),
            pool[0].clone().into_tensor_arg(),
            pool[1].clone().into_tensor_arg(),
            heads,
            width,
        );
    }
    turned
}

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn append_turned(
    queries: &Tensor<f32>,
    keys: &Tensor<f32>,
    values: &Tensor<f32>,
    cos: &Tensor<f32>,
    sin: &Tensor<f32>,
    table: &Tensor<i32>,
    turned: &mut Tensor<f32>,
    pool_keys: &mut Tensor<f32>,
    pool_values: &mut Tensor<f32>,
    #[comptime] heads: usize,
    #[comptime] width: usize,
) {
    let half = comptime!(width / 2);
    let pairs = comptime!(heads * width / 2);
    let row = ABSOLUTE_POS / pairs;
    if row >= queries.shape(0) {
        terminate!();
    }
    let (head, i) = (ABSOLUTE_POS % pairs / half, ABSOLUTE_POS % half);
    let from = (row * heads + head) * width + i;
    let (c, s) = (cos[row * half + i], sin[row * half + i]);
    let (a, b) = (queries[from], queries[from + half]);
    turned[from] = a * c - b * s;
    turned[from + half] = b * c + a * s;

    let line = row * table.stride(0);
    let to = key_start(table, line, table[line] as usize, head, heads) * width + i;
    let (a, b) = (keys[from], keys[from + half]);
    pool_keys[to] = a * c - b * s;
    pool_keys[to + half] = b * c + a * s;
    pool_values[to] = values[from];
    pool_values[to + half] = values[from + half];
}

/// The number of a head's key among all of the pool.
#[cube]
fn key_start(table: &Tensor<i32>, line: usize, position: usize, head: usize, #[comptime] heads: usize) -> usize {
    let block = table[line + 1 + position / BLOCK] as usize;
    (block * heads + head) * BLOCK + position % BLOCK
}

/// Attention of each row's position over itself and all before it.
///
/// # Shapes
/// - `queries`: `[rows, heads, width]`
/// - `pool`: keys and values, `[blocks, heads, BLOCK, width]`
/// - `table`: see [`Places`](crate::Places); `longest` is the highest of its positions and one
/// - output: `[rows, heads, width]`; nothing for wider heads than a cube has units for
pub(super) fn attend(
    queries: &CubeTensor,
    pool: [CubeTensor; 2],
    table: &CubeTensor,
    longest: usize,
) -> Option<CubeTensor> {
    let [rows, heads, width] = queries.meta.shape().dims::<3>();
    let (lanes, parts) = (lanes([width]), longest.div_ceil(PART));
    let plan = Plan { heads, vectors: width / lanes, scale: (width as f32).sqrt().recip().to_bits() };
    if plan.vectors > UNITS {
        return None;
    }
    let sums = empty(queries, [rows, parts, heads, width], DType::F32);
    let marks = empty(queries, [rows, parts, heads, 2], DType::F32);
    let [keys, values] = pool;
    // SAFETY: blocks are read up to each row's own position alone, where the table has them, and parts beyond it are left out;
    // a cube writes its own part.
    unsafe {
        attend_part::launch_unchecked(
            &queries.client,
            CubeCount::Static(heads as u32, rows as u32, parts as u32),
            CubeDim::new_1d(UNITS as u32),
            lanes,
            queries.clone().into_tensor_arg(),
            keys.into_tensor_arg(),
            values.into_tensor_arg(),
            table.clone().into_tensor_arg(),
            sums.clone().into_tensor_arg(),
            marks.clone().into_tensor_arg(),
            plan,
        );
    }
    Some(if parts == 1 { of_shape(sums, [rows, heads, width]) } else { join(&sums, &marks, table, plan) })
}

/// The same numbers in another shape.
fn of_shape<const D: usize>(tensor: CubeTensor, shape: [usize; D]) -> CubeTensor {
    CubeTensor::new_contiguous(tensor.client, tensor.device, shape.into(), tensor.handle, tensor.dtype)
}

#[cube(launch_unchecked)]
fn attend_part<N: Size>(
    queries: &Tensor<Vector<f32, N>>,
    keys: &Tensor<Vector<f32, N>>,
    values: &Tensor<Vector<f32, N>>,
    table: &Tensor<i32>,
    sums: &mut Tensor<Vector<f32, N>>,
    marks: &mut Tensor<f32>,
    #[comptime] plan: Plan,
) {
    let (head, row, part) = (CUBE_POS_X as usize, CUBE_POS_Y as usize, CUBE_POS_Z as usize);
    let line = row * table.stride(0);
    let first = part * PART;
    let seen = table[line] as usize + 1;
    if first < seen {
        let count = usize::min(seen - first, PART);
        let mut products = Shared::<[f32]>::new_slice(comptime!(PART * SHARE));
        let query = (row * plan.heads + head) * plan.vectors;
        key_products::<N>(queries, keys, table, &mut products, query, line, first, count, plan);
        sync_cube();

        let own = UNIT_POS as usize;
        let mut score = f32::new(0.0);
        #[unroll]
        for i in 0..SHARE {
            score += products[own * SHARE + i];
        }
        score = select(own < count, score * f32::new(comptime!(f32::from_bits(plan.scale))), f32::new(LOWEST));
        let mut field = Shared::<[f32]>::new_slice(PART);
        let highest = cube_highest(score, &mut field, HALVINGS);
        let mut weights = Shared::<[f32]>::new_slice(PART);
        let weight = select(own < count, f32::exp(score - highest), f32::new(0.0));
        weights[own] = weight;
        let total = cube_sum(weight, &mut field, HALVINGS);

        let sum = weighted_values::<N>(values, table, &weights, line, first, count, head, plan);
        let mut groups = Shared::<[Vector<f32, N>]>::new_slice(UNITS);
        groups[own] = sum;
        sync_cube();
        let to = (row * CUBE_COUNT_Z as usize + part) * plan.heads + head;
        if own < plan.vectors {
            let mut sum = groups[own];
            #[unroll]
            for group in 1..comptime!(UNITS / plan.vectors) {
                sum += groups[group * plan.vectors + own];
            }
            sums[to * plan.vectors + own] = sum / Vector::new(total);
        }
        if own == 0 {
            marks[2 * to] = highest;
            marks[2 * to + 1] = total;
        }
    }
}

/// Each key's product with the query, in as many sums as units share it.
#[cube]
#[allow(clippy::too_many_arguments)]
fn key_products<N: Size>(
    queries: &Tensor<Vector<f32, N>>,
    keys: &Tensor<Vector<f32, N>>,
    table: &Tensor<i32>,
    products: &mut Shared<[f32]>,
    query: usize,
    line: usize,
    first: usize,
    count: usize,
    #[comptime] plan: Plan,
) {
    let own = UNIT_POS as usize;
    let head = CUBE_POS_X as usize;
    let share = own % SHARE;
    #[unroll]
    for turn in 0..SHARE {
        let key = turn * comptime!(UNITS / SHARE) + own / SHARE;
        let mut sum = Vector::<f32, N>::new(f32::new(0.0));
        if key < count {
            let start = key_start(table, line, first + key, head, plan.heads) * plan.vectors;
            let mut at = share;
            while at < plan.vectors {
                sum += queries[query + at] * keys[start + at];
                at += SHARE;
            }
        }
        products[key * SHARE + share] = lane_sum::<N>(sum);
    }
}

/// A unit's part of the weighted sum of values: one vector of some positions.
#[cube]
#[allow(clippy::too_many_arguments)]
fn weighted_values<N: Size>(
    values: &Tensor<Vector<f32, N>>,
    table: &Tensor<i32>,
    weights: &Shared<[f32]>,
    line: usize,
    first: usize,
    count: usize,
    head: usize,
    #[comptime] plan: Plan,
) -> Vector<f32, N> {
    let (column, group) = (UNIT_POS as usize % plan.vectors, UNIT_POS as usize / plan.vectors);
    let groups = comptime!(UNITS / plan.vectors);
    let mut sum = Vector::<f32, N>::new(f32::new(0.0));
    if group < groups {
        let mut at = group;
        while at < count {
            let start = key_start(table, line, first + at, head, plan.heads) * plan.vectors;
            sum += Vector::new(weights[at]) * values[start + column];
            at += groups;
        }
    }
    sum
}

fn join(sums: &CubeTensor, marks: &CubeTensor, table: &CubeTensor, plan: Plan) -> CubeTensor {
    let [rows, _, heads, width] = sums.meta.shape().dims::<4>();
    let lanes = width / plan.vectors;
    let y = empty(sums, [rows, heads, width], DType::F32);
    let count = (rows * heads * plan.vectors).div_ceil(UNITS);
    // SAFETY: units beyond the last vector stop; of each row the parts up to its position are read, which were written.
    unsafe {
        join_parts::launch_unchecked(
            &sums.client,
            CubeCount::Static(count as u32, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            lanes,
            sums.clone().into_tensor_arg(),
            marks.clone().into_tensor_arg(),
            table.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            plan,
        );
    }
    y
}

#[cube(launch_unchecked)]
fn join_parts<N: Size>(
    sums: &Tensor<Vector<f32, N>>,
    marks: &Tensor<f32>,
    table: &Tensor<i32>,
    y: &mut Tensor<Vector<f32, N>>,
    #[comptime] plan: Plan,
) {
    let across = comptime!(plan.heads * plan.vectors);
    let (row, column) = (ABSOLUTE_POS / across, ABSOLUTE_POS % across);
    if row >= y.shape(0) {
        terminate!();
    }
    let parts = (table[row * table.stride(0)] as usize + 1).div_ceil(PART);
    let start = row * sums.shape(1);
    let head = column / plan.vectors;
    // A row of one part is that part, to the last bit, as where no row has more.
    let mut sum = sums[start * across + column];
    if parts > 1 {
        let mut highest = f32::new(LOWEST);
        for part in 0..parts {
            highest = f32::max(highest, marks[2 * ((start + part) * plan.heads + head)]);
        }
        sum = Vector::new(f32::new(0.0));
        let mut total = f32::new(0.0);
        for part in 0..parts {
            let mark = 2 * ((start + part) * plan.heads + head);
            let weight = f32::exp(marks[mark] - highest) * marks[mark + 1];
            total += weight;
            sum += Vector::new(weight) * sums[(start + part) * across + column];
        }
        sum /= Vector::new(total);
    }
    y[row * across + column] = sum;
}
