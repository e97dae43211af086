//! The routed experts of a layer, each for itself or stacked.

use crate::GatedMlp;
use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{LinearWeight, StoredLinear};

/// The routed experts of a layer.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // A model holds a dozen of them.
pub enum Experts {
    /// As a checkpoint has them: on the CPU each is read where its file is mapped.
    Each(Vec<GatedMlp>),
    /// Those of a kind in one tensor, so that a kernel finds an expert by its number: on a GPU.
    Stacked(ExpertStack),
}

/// The matrices of all experts.
#[derive(Module, Debug)]
pub struct ExpertStack {
    /// `[experts, width, hidden]`.
    pub gate_proj: Param<Tensor<3>>,
    /// `[experts, width, hidden]`.
    pub up_proj: Param<Tensor<3>>,
    /// `[experts, hidden, width]`.
    pub down_proj: Param<Tensor<3>>,
}

impl Experts {
    /// Experts with random weights, drawn when they are first used.
    pub(crate) fn new(count: usize, [hidden, width]: [usize; 2], device: &Device) -> Self {
        Self::Each((0..count).map(|_| GatedMlp::new(hidden, width, device)).collect())
    }

    /// How many there are.
    #[allow(clippy::len_without_is_empty)] // A layer without experts is none.
    pub fn len(&self) -> usize {
        match self {
            Self::Each(experts) => experts.len(),
            Self::Stacked(stack) => stack.gate_proj.lazy_shape()[0],
        }
    }

    /// One expert. Its weights are shared with the layer, or copied out of a stack where a device cannot lend a part.
    pub fn get(&self, index: usize) -> GatedMlp {
        match self {
            Self::Each(experts) => experts[index].clone(),
            Self::Stacked(stack) => stack.get(index),
        }
    }

    /// The experts in stacks, if they hold numbers of one type; those in blocks stay apart.
    ///
    /// For the time of the call the device holds them twice.
    pub fn stack(self) -> Self {
        let Self::Each(experts) = &self else { return self };
        let kind = |of: fn(&GatedMlp) -> &StoredLinear| stacked(experts.iter().map(of));
        match (kind(|e| &e.gate_proj), kind(|e| &e.up_proj), kind(|e| &e.down_proj)) {
            (Some(gate_proj), Some(up_proj), Some(down_proj)) => {
                Self::Stacked(ExpertStack { gate_proj, up_proj, down_proj })
            }
            _ => self,
        }
    }

    /// The experts by themselves, if they are.
    #[cfg(feature = "flex")]
    pub(crate) fn each(&self) -> Option<&[GatedMlp]> {
        match self {
            Self::Each(experts) => Some(experts),
            Self::Stacked(_) => None,
        }
    }
}

impl ExpertStack {
    fn get(&self, index: usize) -> GatedMlp {
        let layer = |stack: &Param<Tensor<3>>| {
            let weight = Param::from_tensor(stack.val().narrow(0, index, 1).squeeze_dim(0));
            StoredLinear { weight: LinearWeight::Stored(weight), bias: None }
        };
        GatedMlp { gate_proj: layer(&self.gate_proj), up_proj: layer(&self.up_proj), down_proj: layer(&self.down_proj) }
    }
}

/// The layers' matrices in one tensor, if they are numbers of one type.
fn stacked<'a>(layers: impl Iterator<Item = &'a StoredLinear>) -> Option<Param<Tensor<3>>> {
    let matrix = |layer: &StoredLinear| match &layer.weight {
        LinearWeight::Stored(weight) => Some(weight.val()),
        LinearWeight::Blocks(_) => None,
    };
    let matrices: Vec<Tensor<2>> = layers.map(matrix).collect::<Option<_>>()?;
    let dtype = matrices.first()?.dtype();
    matrices.iter().all(|matrix| matrix.dtype() == dtype).then(|| Param::from_tensor(Tensor::stack(matrices, 0)))
}
