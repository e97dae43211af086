//! The shared operations in plain tensor code: the specification, the fallback for any backend, the oracle of the tests.

use crate::quant::{BLOCK, BlockFormat, BlockWeight, LEVELS, PANEL};
use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData};

/// See [`linear`](super::linear).
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let y = x.matmul(widen(weight).transpose());
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// A matrix in blocks as floats.
///
/// # Shapes
/// - output: `[outputs, inputs]`, f32
pub fn unpack(weight: &BlockWeight) -> Tensor<2> {
    let [outputs, inputs] = weight.dims();
    let (panels, blocks) = (outputs / PANEL, inputs / BLOCK);
    let (words, scales) = (weight.levels.val(), widen(weight.scales.val()));
    let byte = |at: i32| words.clone().bitwise_right_shift_scalar(8 * at).bitwise_and_scalar(0xff);
    let bytes: Tensor<5, Int> = Tensor::stack((0..4).map(byte).collect(), 4);
    let levels = match weight.format() {
        BlockFormat::Q8 => (bytes.add_scalar(0x80).bitwise_and_scalar(0xff) - 0x80).cast(FloatDType::F32),
        BlockFormat::Q4 => {
            let low = bytes.clone().bitwise_and_scalar(0xf);
            let indices = Tensor::cat(vec![low, bytes.bitwise_right_shift_scalar(4)], 2);
            let levels = TensorData::new(LEVELS.map(f32::from).to_vec(), [LEVELS.len()]);
            let levels: Tensor<1> = Tensor::from_data(levels, (&words.device(), DType::F32));
            let shape: [usize; 5] = indices.dims();
            levels.select(0, indices.flatten(0, 4)).reshape(shape)
        }
    };
    let weights = levels * scales.reshape([panels, blocks, 1, PANEL, 1]);
    weights.permute([0, 3, 1, 2, 4]).reshape([outputs, inputs])
}

/// Burn does not promote data types by itself.
fn widen<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
}
