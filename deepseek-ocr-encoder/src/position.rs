//! Position tables at other sizes than they were trained for: resampling is linear, so it is a small matrix and a product.
//!
//! The matrix is computed on the host in f64; the table stays where it is.

use burn::tensor::{DType, Tensor, TensorData};

/// The free parameter of the bicubic kernel that antialiased resampling uses in PyTorch and in Pillow.
const CUBIC_A: f64 = -0.5;

/// Reach of the bicubic kernel to each side.
const CUBIC_SUPPORT: f64 = 2.0;

/// A square table at another side: bicubic, antialiased, edges not aligned (`align_corners=False`).
///
/// # Shapes
/// - `table`: `[1, native, native, width]`
/// - output: `[1, side, side, width]`
pub(crate) fn resize_grid(table: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, native, _, width] = table.dims();
    if native == side {
        return table;
    }
    let matrix = TensorData::new(bicubic(native, side), [side, native]);
    let matrix = Tensor::<2>::from_data(matrix, (&table.device(), DType::F32));
    let rows = matrix.clone().matmul(table.reshape([native, native * width]));
    let both = matrix.unsqueeze::<3>().matmul(rows.reshape([side, native, width]));
    both.unsqueeze()
}

/// A table of offsets at another length: linear between neighbours, edges not aligned (`align_corners=False`).
///
/// # Shapes
/// - `table`: `[native, width]`
/// - output: `[length, width]`
pub(crate) fn resize_line(table: Tensor<2>, length: usize) -> Tensor<2> {
    let [native, _] = table.dims();
    if native == length {
        return table;
    }
    let matrix = TensorData::new(linear(native, length), [length, native]);
    Tensor::<2>::from_data(matrix, (&table.device(), DType::F32)).matmul(table)
}

/// A rectangle of a square table, at its own size.
///
/// # Shapes
/// - `table`: `[1, native, native, width]`
/// - output: `[1, rows, columns, width]`
pub(crate) fn cut_grid(table: Tensor<4>, [row, column]: [usize; 2], [rows, columns]: [usize; 2]) -> Tensor<4> {
    table.narrow(1, row, rows).narrow(2, column, columns)
}

/// The offsets of a table between coordinates below `side`.
///
/// # Shapes
/// - `table`: `[2 * native - 1, width]`
/// - output: `[2 * side - 1, width]`
pub(crate) fn cut_line(table: Tensor<2>, side: usize) -> Tensor<2> {
    let native = table.dims()[0].div_ceil(2);
    table.narrow(0, native - side, 2 * side - 1)
}

/// Weights of the old samples in each new one, `[to, from]`.
fn bicubic(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    // Shrinking widens the kernel: that is the antialiasing.
    let stretch = scale.max(1.0);
    let support = CUBIC_SUPPORT * stretch;
    let mut matrix = vec![0.0; to * from];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let centre = (i as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |j: usize| cubic((j as f64 - centre + 0.5) / stretch);
        let sum: f64 = (first..end).map(weight).sum();
        for (j, share) in (first..end).zip(&mut row[first..end]) {
            *share = (weight(j) / sum) as f32;
        }
    }
    matrix
}

fn cubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((CUBIC_A + 2.0) * x - (CUBIC_A + 3.0)) * x * x + 1.0
    } else if x < CUBIC_SUPPORT {
        (((x - 5.0) * x + 8.0) * x - 4.0) * CUBIC_A
    } else {
        0.0
    }
}

/// Weights of the old samples in each new one, `[to, from]`.
fn linear(from: usize, to: usize) -> Vec<f32> {
    let scale = from as f64 / to as f64;
    let mut matrix = vec![0.0; to * from];
    for (i, row) in matrix.chunks_exact_mut(from).enumerate() {
        let at = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let left = (at as usize).min(from - 1);
        let right = (left + 1).min(from - 1);
        let share = (at - left as f64) as f32;
        row[left] += 1.0 - share;
        row[right] += share;
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generated;
    use burn::tensor::Tolerance;

    #[test]
    fn the_native_size_is_left_alone() {
        let grid = generated::tensor([1, 6, 6, 3]);
        resize_grid(grid.clone(), 6).into_data().assert_eq(&grid.into_data(), true);
        let line = generated::tensor([7, 3]);
        resize_line(line.clone(), 7).into_data().assert_eq(&line.into_data(), true);
    }

    #[test]
    fn resampling_to_the_same_size_is_the_identity() {
        let identity: Vec<f32> = (0..25).map(|i| if i % 6 == 0 { 1.0 } else { 0.0 }).collect();
        assert_eq!(bicubic(5, 5), identity);
        assert_eq!(linear(5, 5), identity);
    }

    #[test]
    fn a_constant_table_stays_constant() {
        let table = Tensor::<4>::full([1, 16, 16, 2], 3.5, (&Default::default(), DType::F32));
        for side in [8, 10, 20] {
            let resized = resize_grid(table.clone(), side);
            let expected = Tensor::<4>::full([1, side, side, 2], 3.5, (&Default::default(), DType::F32));
            resized.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));
        }
    }

    #[test]
    fn a_straight_line_stays_straight_inside() {
        let matrix = linear(127, 63);
        for (i, row) in matrix.chunks_exact(127).enumerate() {
            let at: f32 = row.iter().enumerate().map(|(j, w)| j as f32 * w).sum();
            let expected = (i as f32 + 0.5) * 127.0 / 63.0 - 0.5;
            assert!((at - expected).abs() < 1e-4, "{i}: {at}, expected {expected}");
        }
    }

    #[test]
    fn rows_and_columns_are_not_swapped() {
        // Value = row index: enlarging keeps all columns equal and rows rising.
        let rows: Vec<f32> = (0..16).map(|i| (i / 4) as f32).collect();
        let table = Tensor::<4>::from_data(TensorData::new(rows, [1, 4, 4, 1]), (&Default::default(), DType::F32));
        let resized = resize_grid(table, 8).reshape([8, 8]);
        let values = resized.into_data().try_to_vec::<f32>().expect("f32");
        for row in values.chunks_exact(8) {
            assert!(row.iter().all(|v| (v - row[0]).abs() < 1e-6), "{row:?}");
        }
        assert!(values[0] < values[16] && values[16] < values[48], "{values:?}");
    }
}
