//! A layer's weights, lent to the kernels of other crates.

use super::{Blocks, Matrix, Weights, contiguous, weights};
use crate::{
    LinearWeight, StoredLinear,
    quant::{BlockFormat, BlockWeight},
};
use burn::{
    backend::Flex,
    tensor::{Int, Tensor},
};
use burn_flex::FlexTensor;
use half::f16;

/// The weights of a [`StoredLinear`] as they lie in Flex's memory.
#[derive(Clone, Debug)]
pub struct Layer {
    weight: Held,
    outputs: usize,
    inputs: usize,
}

#[derive(Clone, Debug)]
enum Held {
    Stored(FlexTensor),
    Blocks { format: BlockFormat, levels: FlexTensor, scales: FlexTensor },
}

impl Layer {
    /// Nothing where the weights are not on Flex, are tracked by autodiff or have another type than kernels know, and for a
    /// layer with bias.
    pub fn of(layer: &StoredLinear) -> Option<Self> {
        if layer.bias.is_some() {
            return None;
        }
        match &layer.weight {
            LinearWeight::Stored(weight) => {
                let weight = weight.val();
                let [outputs, inputs] = weight.dims();
                let weight = Held::Stored(contiguous(&weight)?);
                weight.weights().is_some().then_some(Self { weight, outputs, inputs })
            }
            LinearWeight::Blocks(weight) => Self::of_blocks(weight),
        }
    }

    pub(super) fn of_blocks(weight: &BlockWeight) -> Option<Self> {
        let [outputs, inputs] = weight.dims();
        let weight = Held::Blocks {
            format: weight.format(),
            levels: contiguous_int(&weight.levels.val())?,
            scales: contiguous(&weight.scales.val())?,
        };
        weight.weights().is_some().then_some(Self { weight, outputs, inputs })
    }

    /// The matrix `[outputs, inputs]`.
    pub fn matrix(&self) -> Matrix<'_> {
        let Some(weights) = self.weight.weights() else { unreachable!("`of` made sure of the type") };
        Matrix::new(weights, self.outputs, self.inputs)
    }
}

impl Held {
    fn weights(&self) -> Option<Weights<'_>> {
        match self {
            Self::Stored(weight) => weights(weight),
            Self::Blocks { format, levels, scales } => {
                Some(Weights::Blocks(Blocks::new(*format, levels.as_slice::<i32>()?, scales.as_slice::<f16>()?)))
            }
        }
    }
}

/// See [`contiguous`].
fn contiguous_int<const D: usize>(tensor: &Tensor<D, Int>) -> Option<FlexTensor> {
    let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
    Some(if tensor.layout().contiguous_offsets().is_some() { tensor } else { tensor.to_contiguous() })
}
