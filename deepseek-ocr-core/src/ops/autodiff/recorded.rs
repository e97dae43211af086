//! Attention as one step of the graph on the CPU, and what all such steps have in common.

use super::Mask;
use crate::ops::flex::attention::{Attention, Slopes};
use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{DType, Tensor},
};
use burn_flex::FlexTensor;

/// See [`attention`](super::attention); nothing where a tensor is not f32 on Flex.
pub(super) fn attention(qkv: [Tensor<3>; 3], mask: Mask) -> Option<Tensor<3>> {
    attend(qkv, mask)
}

/// See [`grid_attention`](super::grid_attention); nothing where a tensor is not f32 on Flex.
pub(super) fn grid_attention([q, k, v]: [Tensor<3>; 3], [vertical, horizontal]: [Tensor<3>; 2]) -> Option<Tensor<3>> {
    attend([q, k, v, vertical, horizontal], Mask::All)
}

/// The step; without state.
#[derive(Debug)]
struct Recorded;

/// What went in.
#[derive(Clone, Debug)]
struct Saved {
    inputs: Vec<FlexTensor>,
    mask: Mask,
}

fn attend<const N: usize>(inputs: [Tensor<3>; N], mask: Mask) -> Option<Tensor<3>> {
    record(Recorded, inputs, |inputs| {
        let saved = Saved { inputs: inputs.into(), mask };
        let mut y = FlexTensor::empty(saved.inputs[0].layout().shape().clone(), DType::F32);
        saved.attention()?.forward(y.storage_mut::<f32>());
        Some((saved, y))
    })
}

/// A step of the graph, which `compute` makes of inputs whose numbers lie in their order: what it keeps for the way back, and its
/// output. Nothing where an input is not on Flex or `compute` gives nothing.
pub(super) fn record<B: Backward<Flex, N>, const N: usize, const D: usize>(
    step: B,
    inputs: [Tensor<D>; N],
    compute: impl FnOnce([FlexTensor; N]) -> Option<(B::State, FlexTensor)>,
) -> Option<Tensor<D>> {
    let mut tensors = Vec::with_capacity(N);
    for input in inputs {
        tensors.push(input.autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?);
    }
    let inputs: Vec<_> = tensors.iter().map(|tensor| contiguous(tensor.primitive())).collect();
    let (state, y) = compute(inputs.try_into().ok()?)?;
    let nodes: Vec<_> = tensors.iter().map(|tensor| tensor.node()).collect();
    let y = match step.prepare::<NoCheckpointing>(nodes.try_into().ok()?).compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(state, y),
        OpsKind::UnTracked(step) => step.finish(y),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(y))
}

impl<const N: usize> Backward<Flex, N> for Recorded {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let y = contiguous(&grads.consume::<Flex>(&ops.node));
        let saved = ops.state;
        let mut slopes: Vec<FlexTensor> =
            saved.inputs.iter().map(|input| FlexTensor::zeros(input.layout().shape().clone(), DType::F32)).collect();
        let mut parts = slopes.iter_mut().map(|slope| slope.storage_mut::<f32>());
        let mut part = || parts.next().unwrap_or_default();
        let into = Slopes { q: part(), k: part(), v: part(), vertical: part(), horizontal: part() };
        let attention = saved.attention().expect("what went in once is f32");
        attention.backward(y.as_slice().expect("slopes are of the type of what they are for"), into);
        for (parent, slope) in ops.parents.into_iter().zip(slopes) {
            if let Some(node) = parent {
                grads.register::<Flex>(node.id, slope);
            }
        }
    }
}

impl Saved {
    fn attention(&self) -> Option<Attention<'_>> {
        let part = |index: usize| match self.inputs.get(index) {
            Some(tensor) => tensor.as_slice::<f32>(),
            None => Some(&[][..]),
        };
        let last = |index: usize| self.inputs.get(index).map_or(0, |tensor| tensor.layout().shape()[2]);
        let shape = self.inputs[0].layout().shape();
        Some(Attention {
            q: part(0)?,
            k: part(1)?,
            v: part(2)?,
            vertical: part(3)?,
            horizontal: part(4)?,
            grid: [last(3), last(4)],
            tokens: shape[1],
            head: shape[2],
            mask: self.mask,
        })
    }
}

/// A tensor whose numbers lie in their order.
pub(super) fn contiguous(tensor: &FlexTensor) -> FlexTensor {
    if tensor.layout().contiguous_offsets().is_some() { tensor.clone() } else { tensor.to_contiguous() }
}
