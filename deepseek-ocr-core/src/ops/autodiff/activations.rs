//! Activations as steps of the graph on the CPU.

use super::recorded::{contiguous, record};
use crate::ops::{Precision, flex::Kernel};
use burn::{
    backend::{
        Flex,
        autodiff::{
            checkpoint::base::Checkpointer,
            grads::Gradients,
            ops::{Backward, Ops},
        },
    },
    tensor::{DType, Tensor},
};
use burn_flex::FlexTensor;
use rayon::prelude::*;

/// Numbers that a thread takes at a time.
const PART: usize = 1 << 14;

/// See [`gelu`](super::gelu); nothing where `x` is not f32 on Flex or not tracked.
pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Option<Tensor<D>> {
    activate(Gelu, [x], |kernel, y, _| y.par_chunks_mut(PART).for_each(|y| kernel.gelu_erf(y)))
}

/// See [`silu_gate`](super::silu_gate); nothing where a tensor is not f32 on Flex or none is tracked.
pub(super) fn silu_gate<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Option<Tensor<D>> {
    activate(SiluGate, [gate, up], |kernel, y, [_, up]| {
        y.par_chunks_mut(PART).zip(up.par_chunks(PART)).for_each(|(y, up)| kernel.silu_gate(y, up));
    })
}

/// The step of `forward`, which makes the output of the first input's numbers, in place, and all inputs.
fn activate<const N: usize, const D: usize>(
    step: impl Backward<Flex, N, State = [FlexTensor; N]>,
    inputs: [Tensor<D>; N],
    forward: impl FnOnce(Kernel, &mut [f32], [&[f32]; N]),
) -> Option<Tensor<D>> {
    if !inputs.iter().any(Tensor::is_autodiff) {
        return None;
    }
    record(step, inputs, |inputs| {
        if inputs.iter().any(|tensor| tensor.as_slice::<f32>().is_none()) {
            return None;
        }
        let mut y = copy(&inputs[0]);
        forward(Kernel::new(Precision::Exact), y.storage_mut(), inputs.each_ref().map(numbers));
        Some((inputs, y))
    })
}

#[derive(Debug)]
struct Gelu;

impl Backward<Flex, 1> for Gelu {
    type State = [FlexTensor; 1];

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slope = contiguous(&grads.consume::<Flex>(&ops.node));
        let ([node], kernel) = (ops.parents, Kernel::new(Precision::Exact));
        let Some(node) = node else { return };
        let mut x = copy(&ops.state[0]);
        let parts = x.storage_mut::<f32>().par_chunks_mut(PART).zip(numbers(&slope).par_chunks(PART));
        parts.for_each(|(x, slope)| kernel.gelu_erf_slope(x, slope));
        grads.register::<Flex>(node.id, x);
    }
}

#[derive(Debug)]
struct SiluGate;

impl Backward<Flex, 2> for SiluGate {
    type State = [FlexTensor; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slope = contiguous(&grads.consume::<Flex>(&ops.node));
        let ([mut gate, mut up], kernel) = (ops.state.each_ref().map(copy), Kernel::new(Precision::Exact));
        let both = gate.storage_mut::<f32>().par_chunks_mut(PART).zip(up.storage_mut::<f32>().par_chunks_mut(PART));
        let parts = both.zip(numbers(&slope).par_chunks(PART));
        parts.for_each(|((gate, up), slope)| kernel.silu_gate_slopes(gate, up, slope));
        for (parent, slope) in ops.parents.into_iter().zip([gate, up]) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, slope);
            }
        }
    }
}

/// A tensor with numbers of its own.
fn copy(tensor: &FlexTensor) -> FlexTensor {
    let mut copy = FlexTensor::empty(tensor.layout().shape().clone(), DType::F32);
    copy.storage_mut::<f32>().copy_from_slice(numbers(tensor));
    copy
}

/// The numbers of a tensor of f32 that lie in their order.
fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("what is computed of f32 is f32")
}
