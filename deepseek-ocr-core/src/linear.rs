//! Layers whose matrices are used as they lie in the checkpoint.

use crate::ops;
use burn::{
    module::{Module, Param},
    nn::Initializer,
    tensor::{DType, Device, FloatDType, Int, Tensor},
};

/// Configuration of a [`StoredLinear`].
#[derive(Debug, Clone, Copy)]
pub struct StoredLinearConfig {
    inputs: usize,
    outputs: usize,
    bias: bool,
}

/// `y = x W^T + b` with `W` in the checkpoint's layout `[outputs, inputs]` and data type.
///
/// Activations are f32 whatever the weights are.
#[derive(Module, Debug)]
pub struct StoredLinear {
    /// `[outputs, inputs]`; bf16, f16 or f32.
    pub weight: Param<Tensor<2>>,
    /// `[outputs]`, f32.
    pub bias: Option<Param<Tensor<1>>>,
}

/// A table of token embeddings in the checkpoint's data type.
#[derive(Module, Debug)]
pub struct TokenEmbedding {
    /// `[vocabulary, hidden]`; bf16, f16 or f32.
    pub weight: Param<Tensor<2>>,
}

impl StoredLinearConfig {
    /// A layer with bias.
    pub fn new(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, bias: true }
    }

    /// A layer without bias.
    pub fn without_bias(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, bias: false }
    }

    /// A layer with random weights, drawn when they are first used.
    pub fn init(&self, device: &Device) -> StoredLinear {
        let Self { inputs, outputs, bias } = *self;
        let weights = Initializer::KaimingUniform { gain: 1.0 / 3.0f64.sqrt(), fan_out_only: false };
        StoredLinear {
            weight: weights.init_with([outputs, inputs], Some(inputs), Some(outputs), device),
            bias: bias.then(|| Initializer::Zeros.init([outputs], device)),
        }
    }
}

impl StoredLinear {
    /// # Shapes
    /// - `x`: `[.., inputs]`
    /// - output: `[.., outputs]`, f32
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let [outputs, inputs] = self.weight.lazy_shape().dims();
        let rows = shape[..D - 1].iter().product();
        let y = ops::linear(x.reshape([rows, inputs]), self.weight.val(), self.bias.as_ref().map(Param::val));
        shape[D - 1] = outputs;
        y.reshape(shape)
    }
}

impl TokenEmbedding {
    /// A table with random weights, drawn when they are first used.
    pub fn new(vocabulary: usize, hidden: usize, device: &Device) -> Self {
        let weights = Initializer::Normal { mean: 0.0, std: 0.02 };
        Self { weight: weights.init([vocabulary, hidden], device) }
    }

    /// # Shapes
    /// - `ids`: `[tokens]`, each below the vocabulary's size
    /// - output: `[tokens, hidden]`, f32
    pub fn forward(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        let rows = self.weight.val().select(0, ids);
        if rows.dtype() == DType::F32 { rows } else { rows.cast(FloatDType::F32) }
    }
}
