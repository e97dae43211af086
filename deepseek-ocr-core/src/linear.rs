//! Layers whose matrices are used as they lie in the checkpoint.

use crate::{
    Weights, ops,
    quant::{BlockFormat, BlockWeight},
};
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

/// `y = x W^T + b` with `W` in the checkpoint's layout `[outputs, inputs]` and data type, or in blocks.
///
/// Activations are f32 whatever the weights are.
#[derive(Module, Debug)]
pub struct StoredLinear {
    /// `[outputs, inputs]`.
    pub weight: LinearWeight,
    /// `[outputs]`, f32.
    pub bias: Option<Param<Tensor<1>>>,
}

/// The matrix of a [`StoredLinear`].
#[derive(Module, Debug)]
pub enum LinearWeight {
    /// Numbers: bf16, f16 or f32.
    Stored(Param<Tensor<2>>),
    /// Blocks of 8 or 4 bits.
    Blocks(BlockWeight),
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
        let weight = weights.init_with([outputs, inputs], Some(inputs), Some(outputs), device);
        StoredLinear {
            weight: LinearWeight::Stored(weight),
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
        let [outputs, inputs] = self.weight.dims();
        let rows = shape[..D - 1].iter().product();
        let (x, bias) = (x.reshape([rows, inputs]), self.bias.as_ref().map(Param::val));
        let y = match &self.weight {
            LinearWeight::Stored(weight) => ops::linear(x, weight.val(), bias),
            LinearWeight::Blocks(weight) => ops::block_linear(x, weight, bias),
        };
        shape[D - 1] = outputs;
        y.reshape(shape)
    }

    /// The layer with its matrix in this format. A matrix that is in blocks already, or consists of no whole ones, stays as it is.
    ///
    /// # Panics
    /// If the matrix is there and holds numbers that are not finite.
    pub fn with_weights(self, weights: Weights) -> Self {
        let weight = match (self.weight, weights.blocks()) {
            (LinearWeight::Stored(weight), Some(format)) if BlockFormat::fits(weight.lazy_shape().dims()) => {
                LinearWeight::Blocks(BlockWeight::pack(&weight, format))
            }
            (weight, _) => weight,
        };
        Self { weight, ..self }
    }
}

impl LinearWeight {
    /// The matrix as floats: a copy if it is in blocks.
    pub fn val(&self) -> Tensor<2> {
        match self {
            Self::Stored(weight) => weight.val(),
            Self::Blocks(weight) => ops::reference::unpack(weight),
        }
    }

    /// Outputs and inputs; nothing is drawn for it.
    pub fn dims(&self) -> [usize; 2] {
        match self {
            Self::Stored(weight) => weight.lazy_shape().dims(),
            Self::Blocks(weight) => weight.dims(),
        }
    }

    /// Whether the numbers are there, drawn or loaded.
    pub fn is_initialized(&self) -> bool {
        match self {
            Self::Stored(weight) => weight.is_initialized(),
            Self::Blocks(weight) => weight.levels.is_initialized(),
        }
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
