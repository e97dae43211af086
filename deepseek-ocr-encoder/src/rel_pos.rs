//! Decomposed relative positions (SAM's, after MViTv2): a score gains one term for how far the key lies above or below the
//! query and one for how far it lies left or right. Both depend on the query.

use burn::tensor::{DType, Int, Tensor, TensorData};

/// Side of the square that a table of offsets belongs to: offsets run from `-(side - 1)` to `side - 1`.
pub(crate) fn side(table: &Tensor<2>) -> usize {
    table.dims()[0].div_ceil(2)
}

/// The row of the table for each pair of coordinates.
///
/// # Shapes
/// - `table`: `[2 * side - 1, head]`
/// - output: `[side, side, head]`; query coordinate, then key coordinate
pub(crate) fn pairs(table: Tensor<2>) -> Tensor<3> {
    let (side, head) = (side(&table), table.dims()[1]);
    let coordinates = (0..side).flat_map(|query| (0..side).map(move |key| (query + side - 1 - key) as i32));
    let indices = TensorData::new(coordinates.collect::<Vec<_>>(), [side * side]);
    let indices = Tensor::<1, Int>::from_data(indices, (&table.device(), DType::I32));
    table.select(0, indices).reshape([side, side, head])
}

/// What the vertical offset adds to the scores of some rows of queries.
///
/// # Shapes
/// - `q`: `[heads, rows, columns, head]`
/// - `pairs`: `[rows, key rows, head]`; those of the same rows
/// - output: `[heads, rows * columns, key rows, 1]`
pub(crate) fn vertical(q: Tensor<4>, pairs: Tensor<3>) -> Tensor<4> {
    let ([heads, rows, columns, head], keys) = (q.dims(), pairs.dims()[1]);
    let q = q.permute([1, 0, 2, 3]).reshape([rows, heads * columns, head]);
    let terms = q.matmul(pairs.transpose()).reshape([rows, heads, columns, keys]);
    terms.permute([1, 0, 2, 3]).reshape([heads, rows * columns, keys, 1])
}

/// What the horizontal offset adds to the scores of some rows of queries.
///
/// # Shapes
/// - `q`: `[heads, rows, columns, head]`
/// - `pairs`: `[columns, key columns, head]`
/// - output: `[heads, rows * columns, 1, key columns]`
pub(crate) fn horizontal(q: Tensor<4>, pairs: Tensor<3>) -> Tensor<4> {
    let ([heads, rows, columns, head], keys) = (q.dims(), pairs.dims()[1]);
    let q = q.permute([2, 0, 1, 3]).reshape([columns, heads * rows, head]);
    let terms = q.matmul(pairs.transpose()).reshape([columns, heads, rows, keys]);
    terms.permute([1, 2, 0, 3]).reshape([heads, rows * columns, 1, keys])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_hold_the_offset_from_key_to_query() {
        let offsets = Tensor::<2>::from_data([[-2f32], [-1.0], [0.0], [1.0], [2.0]], (&Default::default(), DType::F32));
        let expected = [[0f32, -1.0, -2.0], [1.0, 0.0, -1.0], [2.0, 1.0, 0.0]];
        pairs(offsets).reshape([3, 3]).into_data().assert_eq(&expected.into(), true);
    }
}
