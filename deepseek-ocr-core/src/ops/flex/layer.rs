//! A layer's weights, lent to the kernels of other crates.

use super::{Matrix, contiguous, weights};
use crate::StoredLinear;
use burn_flex::FlexTensor;

/// The weights of a [`StoredLinear`] as they lie in Flex's memory.
#[derive(Clone, Debug)]
pub struct Layer {
    weight: FlexTensor,
    outputs: usize,
    inputs: usize,
}

impl Layer {
    /// Nothing where the weights are not on Flex, are tracked by autodiff or have another type than kernels know, and for a
    /// layer with bias.
    pub fn of(layer: &StoredLinear) -> Option<Self> {
        if layer.bias.is_some() {
            return None;
        }
        let weight = layer.weight.val();
        let [outputs, inputs] = weight.dims();
        let weight = contiguous(&weight)?;
        weights(&weight).is_some().then_some(Self { weight, outputs, inputs })
    }

    /// The matrix `[outputs, inputs]`.
    pub fn matrix(&self) -> Matrix<'_> {
        let Some(weights) = weights(&self.weight) else { unreachable!("`of` made sure of the type") };
        Matrix::new(weights, self.outputs, self.inputs)
    }
}
