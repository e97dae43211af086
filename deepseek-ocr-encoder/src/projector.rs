//! The projector: both towers' features of a token, side by side, to the decoder's width.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{StoredLinear, StoredLinearConfig};

/// One linear layer over both features.
#[derive(Module, Debug)]
pub struct Projector {
    /// Named as in the checkpoint, where other projectors have several.
    layers: StoredLinear,
}

impl Projector {
    pub(crate) fn new(inputs: usize, hidden: usize, device: &Device) -> Self {
        Self { layers: StoredLinearConfig::new(inputs, hidden).init(device) }
    }

    /// # Shapes
    /// - `tokens`: `[views, 1 + rows * columns, width]` from [`Clip`](crate::Clip); the class token is dropped
    /// - `features`: `[views, channels, rows, columns]` from [`Compressor`](crate::Compressor)
    /// - output: `[views, rows * columns, hidden]`
    pub fn forward(&self, tokens: Tensor<3>, features: Tensor<4>) -> Tensor<3> {
        let [views, channels, rows, columns] = features.dims();
        let tokens = tokens.narrow(1, 1, rows * columns);
        let features = features.reshape([views, channels, rows * columns]).swap_dims(1, 2);
        self.layers.forward(Tensor::cat(vec![tokens, features], 2))
    }
}
