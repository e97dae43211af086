//! Rotary positions (RoFormer) in the half-split form: component `i` turns together with component `i + width / 2`.
//!
//! Burn's own rotary encoding turns neighbouring components and would need permuted weights.

use crate::ops;
use burn::{
    module::Module,
    tensor::{DType, Device, Int, Tensor, TensorData},
};

/// Cosines and sines of every position of the context.
#[derive(Module, Debug)]
pub struct Rope {
    /// `[context, width / 2]`.
    cos: Tensor<2>,
    /// `[context, width / 2]`.
    sin: Tensor<2>,
}

/// The turns of some positions, shared by all blocks of a pass.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// `[1, length, width / 2]` or `[rows, 1, width / 2]`.
    pub(crate) cos: Tensor<3>,
    /// As `cos`.
    pub(crate) sin: Tensor<3>,
}

impl Rope {
    /// Tables for heads of this even `width`.
    pub fn new(context: usize, width: usize, theta: f64, device: &Device) -> Self {
        assert!(width.is_multiple_of(2), "rotary positions need an even head width, not {width}");
        let half = width / 2;
        // Frequencies and angles are rounded to f32 as in the model's definition: at position 8000 it shows.
        let frequencies: Vec<f32> =
            (0..half).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / width as f32)).collect();
        let table = |f: fn(f64) -> f64| {
            let angles = (0..context).flat_map(|at| frequencies.iter().map(move |w| at as f32 * w));
            let values: Vec<f32> = angles.map(|angle| f(f64::from(angle)) as f32).collect();
            Tensor::from_data(TensorData::new(values, [context, half]), (device, DType::F32))
        };
        Self { cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Turns for `length` positions of one sequence from `start`: for `[heads, length, width]`.
    pub fn sequence(&self, start: usize, length: usize) -> Rotation {
        let take = |table: &Tensor<2>| table.clone().narrow(0, start, length).unsqueeze_dim(0);
        Rotation { cos: take(&self.cos), sin: take(&self.sin) }
    }

    /// Turns for positions of one sequence, which may have gaps: for `[heads, length, width]`.
    pub fn at(&self, positions: &[usize]) -> Rotation {
        self.select(positions, 0)
    }

    /// Turns for one position of each row of a batch: for `[rows, heads, width]`.
    pub fn batch(&self, positions: &[usize]) -> Rotation {
        self.select(positions, 1)
    }

    fn select(&self, positions: &[usize], unsqueezed: usize) -> Rotation {
        let indices: Vec<i32> = positions.iter().map(|&at| at as i32).collect();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [positions.len()]), &self.cos.device());
        let take = |table: &Tensor<2>| table.clone().select(0, indices.clone()).unsqueeze_dim(unsqueezed);
        Rotation { cos: take(&self.cos), sin: take(&self.sin) }
    }
}

impl Rotation {
    /// Those of the last `count` positions of a sequence.
    pub fn last(&self, count: usize) -> Self {
        let take = |table: &Tensor<3>| {
            let length = table.dims()[1];
            table.clone().narrow(1, length - count, count)
        };
        Self { cos: take(&self.cos), sin: take(&self.sin) }
    }

    /// # Shapes
    /// - `x`: `[heads, length, width]` or `[rows, heads, width]`, as the rotation was made for
    /// - output: as `x`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        ops::rotate(x, self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    /// The definition, component by component.
    fn naive(x: &[f32], position: usize, theta: f64) -> Vec<f32> {
        let half = x.len() / 2;
        let angle = |i: usize| position as f64 / theta.powf(2.0 * i as f64 / x.len() as f64);
        let turn = |i: usize| {
            let (sin, cos) = angle(i % half).sin_cos();
            if i < half {
                f64::from(x[i]) * cos - f64::from(x[i + half]) * sin
            } else {
                f64::from(x[i]) * cos + f64::from(x[i - half]) * sin
            }
        };
        (0..x.len()).map(|i| turn(i) as f32).collect()
    }

    #[test]
    fn sequence_and_batch_turn_as_the_definition() {
        let (device, width, theta) = (Device::flex(), 6, 100.0);
        let rope = Rope::new(20, width, theta, &device);
        let values = fixture::values(2 * 4 * width, 3);
        let x = Tensor::<1>::from_floats(values.as_slice(), &device);

        let sequence = rope.sequence(5, 4).forward(x.clone().reshape([2, 4, width]));
        let positions = [19, 0, 7, 7];
        let batch = rope.batch(&positions).forward(x.reshape([4, 2, width]));
        let (sequence, batch) = (fixture::floats(sequence), fixture::floats(batch));
        for (i, row) in values.chunks(width).enumerate() {
            let place = i * width..(i + 1) * width;
            fixture::assert_close(&sequence[place.clone()], &naive(row, 5 + i % 4, theta), 1e-5);
            fixture::assert_close(&batch[place], &naive(row, positions[i / 2], theta), 1e-5);
        }
    }
}
