//! Attention within windows, with decomposed relative positions and an online softmax (FlashAttention's): no score is ever stored.
//!
//! A unit owns one query: the query, its running maximum, sum and output stay in registers. The units of a cube read the same keys
//! and values, some at a time, through shared memory. What a position adds to a score depends on the query and on the key's row or
//! column alone, `2 * side` numbers a query: each unit computes its own once and keeps them in memory that only it reads.

use burn::tensor::DType;
use deepseek_ocr_core::ops::cube::{
    CubeTensor,
    cubecl::{self, prelude::*},
    empty, lanes,
    parts::lane_sum,
};

/// Queries of one cube, a unit each.
const QUERIES: u32 = 64;

/// Keys that shared memory holds at once.
const KEYS: usize = 16;

/// Below every score; its exponential is zero. Not all targets know infinity.
const LOWEST: f32 = -1e30;

/// The shape of a call.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) views: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Of the windows.
    pub(super) side: usize,
    pub(super) heads: usize,
    pub(super) head: usize,
}

/// What the kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Plan {
    side: usize,
    heads: usize,
    /// Reads of one head.
    vectors: usize,
    /// The bits of `1 / sqrt(head)`: floats have no hash.
    scale: u32,
}

/// Writes the attention of `qkv` to `y`: see [`rel_pos_attention`](super::rel_pos_attention) for shapes.
pub(super) fn attend(field: &Field, qkv: &CubeTensor, overhang: &CubeTensor, tables: [CubeTensor; 2], y: &CubeTensor) {
    let &Field { views, rows, columns, side, heads, head } = field;
    let windows = [rows.div_ceil(side), columns.div_ceil(side)];
    let tiles = (side * side).div_ceil(QUERIES as usize);
    let cubes = [tiles, heads, views * windows[0] * windows[1]];
    if cubes.contains(&0) {
        return;
    }
    let terms = empty(qkv, [cubes.iter().product(), 2 * side, QUERIES as usize], DType::F32);
    let lanes = lanes([head]);
    let scale = (head as f32).sqrt().recip().to_bits();
    let plan = Plan { side, heads, vectors: head / lanes, scale };
    let [rel_h, rel_w] = tables;
    // SAFETY: a unit reads queries, keys and terms at places that it clamps to the grid and the window, and writes its query's
    // outputs only if that lies in the grid. All tensors are contiguous and of the shapes that `Field` was made of.
    unsafe {
        window_attention::launch_unchecked(
            &qkv.client,
            CubeCount::Static(cubes[0] as u32, cubes[1] as u32, cubes[2] as u32),
            CubeDim::new_1d(QUERIES),
            lanes,
            qkv.clone().into_tensor_arg(),
            overhang.clone().into_tensor_arg(),
            rel_h.into_tensor_arg(),
            rel_w.into_tensor_arg(),
            terms.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            plan,
        );
    }
}

/// Where a window lies.
#[derive(CubeType)]
struct Window {
    view: usize,
    top: usize,
    left: usize,
}

#[cube(launch_unchecked)]
fn window_attention<N: Size>(
    qkv: &Tensor<Vector<f32, N>>,
    overhang: &Tensor<Vector<f32, N>>,
    rel_h: &Tensor<Vector<f32, N>>,
    rel_w: &Tensor<Vector<f32, N>>,
    terms: &mut Tensor<f32>,
    y: &mut Tensor<Vector<f32, N>>,
    #[comptime] plan: Plan,
) {
    let side = comptime!(plan.side);
    let vectors = comptime!(plan.vectors);
    let tokens = comptime!(plan.side * plan.side);
    let (rows, columns) = (qkv.shape(1), qkv.shape(2));
    let across = columns.div_ceil(side);
    let windows = across * rows.div_ceil(side);
    let view = CUBE_POS_Z as usize / windows;
    let window = CUBE_POS_Z as usize % windows;
    let (top, left) = (window / across * side, window % across * side);
    let place_of_window = Window { view, top, left };

    let token = (CUBE_POS_X * QUERIES + UNIT_POS) as usize;
    let own = usize::min(token, comptime!(tokens - 1));
    let (query_row, query_column) = (own / side, own % side);
    let (row, column) = (top + query_row, left + query_column);
    // Units without a query work on the nearest one and write nothing.
    let place = (view * rows + usize::min(row, rows - 1)) * columns + usize::min(column, columns - 1);
    let head = CUBE_POS_Y as usize * vectors;
    let width = comptime!(plan.heads * plan.vectors);

    let mut query = Array::<Vector<f32, N>>::new(vectors);
    #[unroll]
    for i in 0..vectors {
        query[i] = qkv[place * 3 * width + head + i];
    }
    let cube = (CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y) * CUBE_COUNT_X + CUBE_POS_X;
    let term = cube as usize * comptime!(2 * plan.side) * QUERIES as usize + UNIT_POS as usize;
    position_terms::<N>(&query, rel_h, terms, query_row, term, plan);
    position_terms::<N>(&query, rel_w, terms, query_column, term + side * QUERIES as usize, plan);
    // Relative positions meet the unscaled query.
    let scale = Vector::<f32, N>::new(f32::new(comptime!(f32::from_bits(plan.scale))));
    #[unroll]
    for i in 0..vectors {
        query[i] *= scale;
    }

    let mut keys = Shared::<[Vector<f32, N>]>::new_slice(comptime!(KEYS * plan.vectors));
    let mut values = Shared::<[Vector<f32, N>]>::new_slice(comptime!(KEYS * plan.vectors));
    let mut scores = Array::<f32>::new(KEYS);
    let mut output = Array::<Vector<f32, N>>::new(vectors);
    let mut highest = f32::new(LOWEST);
    let mut sum = f32::new(0.0);
    for tile in 0..comptime!((plan.side * plan.side).div_ceil(KEYS)) {
        let first = tile * KEYS;
        sync_cube();
        carry_keys::<N>(qkv, overhang, &mut keys, &mut values, &place_of_window, first, plan);
        sync_cube();

        let mut top_score = highest;
        #[unroll]
        for i in 0..KEYS {
            let key = usize::min(first + i, comptime!(tokens - 1));
            let vertical = terms[term + key / side * QUERIES as usize];
            let horizontal = terms[term + (side + key % side) * QUERIES as usize];
            let mut products = Vector::<f32, N>::new(f32::new(0.0));
            #[unroll]
            for j in 0..vectors {
                products += query[j] * keys[i * vectors + j];
            }
            let score = lane_sum::<N>(products) + vertical + horizontal;
            scores[i] = select(first + i < tokens, score, f32::new(LOWEST));
            top_score = f32::max(top_score, scores[i]);
        }
        let shrink = f32::exp(highest - top_score);
        highest = top_score;
        sum *= shrink;
        #[unroll]
        for j in 0..vectors {
            output[j] *= Vector::new(shrink);
        }
        #[unroll]
        for i in 0..KEYS {
            let weight = f32::exp(scores[i] - highest);
            sum += weight;
            #[unroll]
            for j in 0..vectors {
                output[j] += Vector::new(weight) * values[i * vectors + j];
            }
        }
    }
    if token < tokens && row < rows && column < columns {
        let share = Vector::<f32, N>::new(f32::new(1.0) / sum);
        #[unroll]
        for j in 0..vectors {
            y[place * width + head + j] = output[j] * share;
        }
    }
}

/// What each row, or column, of keys adds to the scores of a query in row, or column, `own`; written from `term` on.
#[cube]
fn position_terms<N: Size>(
    query: &Array<Vector<f32, N>>,
    table: &Tensor<Vector<f32, N>>,
    terms: &mut Tensor<f32>,
    own: usize,
    term: usize,
    #[comptime] plan: Plan,
) {
    for key in 0..plan.side {
        let start = (own + plan.side - 1 - key) * plan.vectors;
        terms[term + key * QUERIES as usize] = product::<N>(query, table, start, plan.vectors);
    }
}

/// Some keys and values of a window to shared memory, its overhang among them.
#[cube]
fn carry_keys<N: Size>(
    qkv: &Tensor<Vector<f32, N>>,
    overhang: &Tensor<Vector<f32, N>>,
    keys: &mut Shared<[Vector<f32, N>]>,
    values: &mut Shared<[Vector<f32, N>]>,
    window: &Window,
    first: usize,
    #[comptime] plan: Plan,
) {
    let (rows, columns) = (qkv.shape(1), qkv.shape(2));
    let width = comptime!(plan.heads * plan.vectors);
    let mut load = UNIT_POS as usize;
    while load < comptime!(KEYS * plan.vectors) {
        let key = usize::min(first + load / plan.vectors, comptime!(plan.side * plan.side - 1));
        let (row, column) = (window.top + key / plan.side, window.left + key % plan.side);
        let at = width + CUBE_POS_Y as usize * plan.vectors + load % plan.vectors;
        if row < rows && column < columns {
            let at = ((window.view * rows + row) * columns + column) * 3 * width + at;
            keys[load] = qkv[at];
            values[load] = qkv[at + width];
        } else {
            keys[load] = overhang[at];
            values[load] = overhang[at + width];
        }
        load += QUERIES as usize;
    }
}

/// A query's product with a row of a table.
#[cube]
fn product<N: Size>(
    query: &Array<Vector<f32, N>>,
    table: &Tensor<Vector<f32, N>>,
    start: usize,
    #[comptime] vectors: usize,
) -> f32 {
    let mut products = Vector::<f32, N>::new(f32::new(0.0));
    #[unroll]
    for i in 0..vectors {
        products += query[i] * table[start + i];
    }
    lane_sum::<N>(products)
}
