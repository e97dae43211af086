//! Windows of patches: SAM's cheap blocks attend within squares of 14 x 14.

use burn::tensor::Tensor;

/// Cuts each grid into windows; where they overhang at the right and the bottom, tokens are `overhang`.
///
/// These are tokens like all others: patches attend to them, as in the released model.
///
/// # Shapes
/// - `x`: `[views, grid, grid, width]`
/// - `overhang`: `[width]`
/// - output: `[views * n * n, side, side, width]` with `n = grid / side`, rounded up
pub(crate) fn partition(x: Tensor<4>, side: usize, overhang: Tensor<1>) -> Tensor<4> {
    let [views, grid, _, width] = x.dims();
    let n = grid.div_ceil(side);
    let padded = n * side;
    let x = if padded == grid {
        x
    } else {
        let tokens = overhang.expand([views, padded, padded, width]);
        tokens.slice_assign([0..views, 0..grid, 0..grid, 0..width], x)
    };
    x.reshape([views, n, side, n, side, width]).swap_dims(2, 3).reshape([views * n * n, side, side, width])
}

/// Puts windows back into grids of `grid` patches a side and drops what overhangs.
///
/// # Shapes
/// - `x`: `[views * n * n, side, side, width]` with `n = grid / side`, rounded up
/// - output: `[views, grid, grid, width]`
pub(crate) fn unpartition(x: Tensor<4>, side: usize, grid: usize) -> Tensor<4> {
    let [windows, _, _, width] = x.dims();
    let n = grid.div_ceil(side);
    let (views, padded) = (windows / (n * n), n * side);
    let x = x.reshape([views, n, n, side, side, width]).swap_dims(2, 3).reshape([views, padded, padded, width]);
    x.slice([0..views, 0..grid, 0..grid, 0..width])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;
    use burn::tensor::DType;

    #[test]
    fn a_round_trip_changes_nothing() {
        for (grid, side) in [(4, 2), (5, 2), (7, 14), (40, 14), (28, 14)] {
            let x = generated::tensor([2, grid, grid, 3]);
            let back = unpartition(partition(x.clone(), side, generated::tensor([3])), side, grid);
            back.into_data().assert_eq(&x.into_data(), true);
        }
    }

    #[test]
    fn windows_come_row_by_row_and_overhang_with_one_token() {
        let x = Tensor::<4>::from_data(
            [[[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]], [[7.0], [8.0], [9.0]]]],
            (&Default::default(), DType::F32),
        );
        let overhang = Tensor::from_data([-1f32], (&Default::default(), DType::F32));
        let windows = partition(x, 2, overhang).reshape([4, 4]);
        let expected = [[1f32, 2.0, 4.0, 5.0], [3.0, -1.0, 6.0, -1.0], [7.0, 8.0, -1.0, -1.0], [9.0, -1.0, -1.0, -1.0]];
        windows.into_data().assert_eq(&expected.into(), true);
    }
}
