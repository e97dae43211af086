//! Tensors of fixed pseudo-random values, for the tests of this crate.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Values in `-1..1`, the same on each run.
pub(crate) fn tensor<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    // Knuth's MMIX generator; its high bits are the good ones.
    let mut state = 1u64;
    let values = (0..shape.iter().product()).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    });
    let data = TensorData::new(values.collect::<Vec<_>>(), shape);
    Tensor::from_data(data, (&Device::default(), DType::F32))
}
