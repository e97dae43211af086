//! Filling modules from a checkpoint, strictly: every parameter is found, every tensor is used.

use super::Checkpoint;
use crate::{Error, Result};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use std::collections::BTreeSet;

/// Tensors that released or re-saved files may hold and that no computation needs.
const UNUSED: [&str; 2] =
    ["model.vision_model.embeddings.patch_embedding.weight", "model.vision_model.embeddings.position_ids"];

/// Modules whose weights stay in the checkpoint's data type; all other parameters are widened to f32.
const STORED: [&str; 2] = ["Struct:StoredLinear", "Struct:TokenEmbedding"];

/// Burn's norms call scale and shift by their Greek letters, checkpoints by what they are.
const NORMS: [&str; 2] = ["Struct:LayerNorm", "Struct:RmsNorm"];

/// How the field path of a module becomes a tensor name: the first prefix that fits is replaced.
///
/// ```
/// use deepseek_ocr_core::Names;
///
/// const NAMES: Names = Names(&[("compressor.net_", "model.sam_model.net_"), ("", "model.")]);
/// assert_eq!(NAMES.tensor_name("compressor.net_2.weight"), "model.sam_model.net_2.weight");
/// assert_eq!(NAMES.tensor_name("norm.weight"), "model.norm.weight");
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Names(pub &'static [(&'static str, &'static str)]);

/// A checkpoint while modules take their tensors from it.
#[derive(Debug)]
pub struct Loading<'a> {
    checkpoint: &'a Checkpoint,
    device: &'a Device,
    taken: BTreeSet<String>,
}

impl Names {
    /// The name in the checkpoint of the parameter at `path`.
    pub fn tensor_name(&self, path: &str) -> String {
        let fit = self.0.iter().find_map(|(from, to)| Some((to, path.strip_prefix(from)?)));
        fit.map_or_else(|| path.to_owned(), |(to, rest)| format!("{to}{rest}"))
    }
}

impl<'a> Loading<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, device: &'a Device) -> Self {
        Self { checkpoint, device, taken: BTreeSet::new() }
    }

    /// Replaces every parameter of `module` by the tensor of its name. Parameters that were not initialised never are.
    ///
    /// Matrices of [`StoredLinear`](crate::StoredLinear) and [`TokenEmbedding`](crate::TokenEmbedding) keep the
    /// checkpoint's data type where the device has it; the rest becomes f32 and must be finite.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::TensorShape`], [`Error::TensorDtype`] or [`Error::TensorNotFinite`].
    pub fn fill<M: Module>(&mut self, module: M, names: &Names) -> Result<M> {
        let mut filler = Filler { loading: self, names, path: Vec::new(), container: Vec::new(), error: None };
        let module = module.map(&mut filler);
        match filler.error {
            Some(error) => Err(error),
            None => Ok(module),
        }
    }

    /// Ends the loading.
    ///
    /// # Errors
    /// [`Error::TensorUnexpected`] if the checkpoint holds tensors that nothing took, the known unused ones aside.
    pub fn finish(self) -> Result<()> {
        let mut left = self.checkpoint.names().filter(|name| !self.taken.contains(*name) && !UNUSED.contains(name));
        match left.next() {
            Some(first) => Err(Error::TensorUnexpected { first: first.to_owned(), count: 1 + left.count() }),
            None => Ok(()),
        }
    }
}

struct Filler<'a, 'b> {
    loading: &'a mut Loading<'b>,
    names: &'a Names,
    path: Vec<String>,
    container: Vec<String>,
    error: Option<Error>,
}

impl Filler<'_, '_> {
    fn tensor<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<Tensor<D>> {
        let name = self.name();
        let shape = param.lazy_shape().to_vec();
        let data = self.loading.checkpoint.data(&name, &shape)?;
        let device = self.loading.device;
        // A bias is small: it is widened like the rest.
        let stored = D == 2 && self.container.last().is_some_and(|container| STORED.contains(&container.as_str()));
        let data = if stored && device.supports_dtype(data.dtype()) {
            data
        } else {
            data.convert_dtype(DType::F32)
        };
        if !stored {
            check_finite(&name, &data)?;
        }
        self.loading.taken.insert(name);
        let dtype = data.dtype();
        Ok(Tensor::from_data(data, (device, dtype)))
    }

    fn name(&self) -> String {
        let mut path = self.path.join(".");
        if self.container.last().is_some_and(|container| NORMS.contains(&container.as_str())) {
            for (ours, theirs) in [("gamma", "weight"), ("beta", "bias")] {
                if let Some(stem) = path.strip_suffix(ours) {
                    path = format!("{stem}{theirs}");
                }
            }
        }
        self.names.tensor_name(&path)
    }
}

impl ModuleMapper for Filler<'_, '_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        // An enum's variant is a choice of representation, not a level of the checkpoint.
        if !container_type.starts_with("Enum:") {
            self.path.push(name.to_owned());
        }
        self.container.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.path.pop();
        }
        self.container.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if self.error.is_some() {
            return param;
        }
        match self.tensor(&param) {
            Ok(tensor) => Param::initialized(param.id, tensor),
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        param
    }
}

fn check_finite(name: &str, data: &TensorData) -> Result<()> {
    let values = data.as_slice::<f32>().unwrap_or_default();
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Error::TensorNotFinite { name: name.to_owned(), index }),
        None => Ok(()),
    }
}
