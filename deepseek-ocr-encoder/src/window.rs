//! Windows of patches: SAM's cheap blocks attend within squares of 14 x 14.

use burn::tensor::Tensor;

/// Cuts each grid into windows; where they overhang at the right and the bottom, tokens are `overhang`.
///
/// These are tokens like all others: patches attend to them, as in the released model.
///
/// # Shapes
/// - `x`: `[views, rows, columns, width]`
/// - `overhang`: `[width]`
/// - output: `[views * down * across, high, wide, width]` for `[high, wide]` windows, `down = rows / high` and
///   `across = columns / wide`, rounded up
pub(crate) fn partition(x: Tensor<4>, [high, wide]: [usize; 2], overhang: Tensor<1>) -> Tensor<4> {
    let [views, rows, columns, width] = x.dims();
    let (down, across) = (rows.div_ceil(high), columns.div_ceil(wide));
    let padded = [down * high, across * wide];
    let x = if padded == [rows, columns] {
        x
    } else {
        let tokens = overhang.expand([views, padded[0], padded[1], width]);
        tokens.slice_assign([0..views, 0..rows, 0..columns, 0..width], x)
    };
    let x = x.reshape([views, down, high, across, wide, width]).swap_dims(2, 3);
    x.reshape([views * down * across, high, wide, width])
}

/// Puts windows back into grids of `[rows, columns]` patches and drops what overhangs.
///
/// # Shapes
/// - `x`: `[views * down * across, high, wide, width]` with `down = rows / high` and `across = columns / wide`, rounded up
/// - output: `[views, rows, columns, width]`
pub(crate) fn unpartition(x: Tensor<4>, [rows, columns]: [usize; 2]) -> Tensor<4> {
    let [windows, high, wide, width] = x.dims();
    let (down, across) = (rows.div_ceil(high), columns.div_ceil(wide));
    let views = windows / (down * across);
    let x = x.reshape([views, down, across, high, wide, width]).swap_dims(2, 3);
    let x = x.reshape([views, down * high, across * wide, width]);
    x.slice([0..views, 0..rows, 0..columns, 0..width])
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
            let back = unpartition(partition(x.clone(), [side; 2], generated::tensor([3])), [grid; 2]);
            back.into_data().assert_eq(&x.into_data(), true);
        }
        let x = generated::tensor([2, 4, 9, 3]);
        let windows = partition(x.clone(), [3, 2], generated::tensor([3]));
        assert_eq!(windows.dims(), [2 * 2 * 5, 3, 2, 3]);
        unpartition(windows, [4, 9]).into_data().assert_eq(&x.into_data(), true);
    }

    #[test]
    fn windows_come_row_by_row_and_overhang_with_one_token() {
        let x = Tensor::<4>::from_data(
            [[[[1.0], [2.0], [3.0]], [[4.0], [5.0], [6.0]], [[7.0], [8.0], [9.0]]]],
            (&Default::default(), DType::F32),
        );
        let overhang = Tensor::from_data([-1f32], (&Default::default(), DType::F32));
        let windows = partition(x, [2, 2], overhang).reshape([4, 4]);
        let expected = [[1f32, 2.0, 4.0, 5.0], [3.0, -1.0, 6.0, -1.0], [7.0, 8.0, -1.0, -1.0], [9.0, -1.0, -1.0, -1.0]];
        windows.into_data().assert_eq(&expected.into(), true);
    }
}
