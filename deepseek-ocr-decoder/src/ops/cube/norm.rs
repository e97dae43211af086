//! The root mean square of each row and what it scales, with the sum before it, in one launch instead of seven.

use burn::tensor::DType;
use deepseek_ocr_core::ops::cube::{
    CubeTensor,
    cubecl::{self, prelude::*},
    empty,
    parts::cube_sum,
};

/// Units of a cube, which has one row.
const UNITS: usize = 256;

/// Halvings of their sums: its logarithm.
const HALVINGS: u32 = 8;

/// `y = x / sqrt(mean(x^2) + epsilon) * gamma`, of `x + added` if there is something to add: then that sum, and `y`.
///
/// # Shapes
/// - `x`, `added`: `[rows, width]`
/// - `gamma`: `[width]`
/// - output: `[rows, width]`, twice
pub(super) fn norm(x: &CubeTensor, added: Option<&CubeTensor>, gamma: &CubeTensor, epsilon: f64) -> [CubeTensor; 2] {
    let [rows, width] = x.meta.shape().dims::<2>();
    let y = empty(x, [rows, width], DType::F32);
    let sum = match added {
        Some(_) => empty(x, [rows, width], DType::F32),
        None => x.clone(),
    };
    // What nothing reads or writes is bound, too: to a buffer of its own.
    let none = || empty(x, [1], DType::F32);
    let bound = if added.is_some() { sum.clone() } else { none() };
    // SAFETY: a cube reads and writes its own row, within the width, of tensors whose shapes the caller compared.
    unsafe {
        rms_norm::launch_unchecked(
            &x.client,
            CubeCount::Static(rows as u32, 1, 1),
            CubeDim::new_1d(UNITS as u32),
            x.clone().into_tensor_arg(),
            added.cloned().unwrap_or_else(none).into_tensor_arg(),
            gamma.clone().into_tensor_arg(),
            bound.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            (epsilon as f32).to_bits(),
            added.is_some(),
        );
    }
    [sum, y]
}

#[cube(launch_unchecked)]
fn rms_norm(
    x: &Tensor<f32>,
    added: &Tensor<f32>,
    gamma: &Tensor<f32>,
    sum: &mut Tensor<f32>,
    y: &mut Tensor<f32>,
    #[comptime] epsilon: u32,
    #[comptime] adds: bool,
) {
    let width = y.shape(1);
    let start = CUBE_POS_X as usize * width;
    let mut squares = f32::new(0.0);
    let mut at = UNIT_POS as usize;
    while at < width {
        let mut number = x[start + at];
        if comptime!(adds) {
            number += added[start + at];
            sum[start + at] = number;
        }
        squares += number * number;
        at += UNITS;
    }
    let mut field = Shared::<[f32]>::new_slice(UNITS);
    let mean = cube_sum(squares, &mut field, HALVINGS) / width as f32;
    let scale = f32::sqrt(mean + f32::new(comptime!(f32::from_bits(epsilon))));
    at = UNIT_POS as usize;
    while at < width {
        let mut number = x[start + at];
        if comptime!(adds) {
            number += added[start + at];
        }
        y[start + at] = number / scale * gamma[at];
        at += UNITS;
    }
}
