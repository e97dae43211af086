//! Filling modules from a checkpoint, strictly: every parameter is found, every tensor is used.

use super::{Checkpoint, Names, place::Place, upload::Upload};
use crate::{
    Error, Result,
    ops::reference::unpack,
    quant::{BlockFormat, BlockWeight, SCALE_SUFFIX, levels_on, pack, scales_on},
};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use std::collections::BTreeSet;

/// Tensors that released or re-saved files may hold and that no computation needs.
const UNUSED: [&str; 2] =
    ["model.vision_model.embeddings.patch_embedding.weight", "model.vision_model.embeddings.position_ids"];

/// Modules whose weights stay in the checkpoint's data type; all other parameters are widened to f32.
const STORED: [&str; 2] = ["Enum:LinearWeight", "Struct:TokenEmbedding"];

/// A checkpoint while modules take their tensors from it.
#[derive(Debug)]
pub struct Loading<'a> {
    checkpoint: &'a Checkpoint,
    upload: Upload<'a>,
    taken: BTreeSet<String>,
}

impl<'a> Loading<'a> {
    pub(super) fn new(checkpoint: &'a Checkpoint, device: &'a Device) -> Self {
        Self { checkpoint, upload: Upload::new(device), taken: BTreeSet::new() }
    }

    /// Replaces every parameter of `module` by the tensor of its name. Parameters that were not initialised never are.
    ///
    /// Matrices of [`StoredLinear`](crate::StoredLinear) and [`TokenEmbedding`](crate::TokenEmbedding) keep the
    /// checkpoint's data type where the device has it, else in f16 if that holds their numbers, else in f32; the
    /// rest becomes f32 and must be finite. Matrices in [blocks](crate::quant) are found in their format, or made from the floats of
    /// their name; what a module has as floats and the checkpoint in blocks, those of a convolution as `[outputs, the rest]`, becomes
    /// f32.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::TensorShape`], [`Error::TensorDtype`] or [`Error::TensorNotFinite`];
    /// [`Error::WeightFormat`] for a matrix that is in other blocks; [`Error::Execution`] if the device fails.
    pub fn fill<M: Module>(&mut self, module: M, names: &Names) -> Result<M> {
        let mut filler = Filler { loading: self, place: Place::new(names), scales: None, error: None };
        let module = module.map(&mut filler);
        match filler.error {
            Some(error) => Err(error),
            None => self.upload.settle(self.checkpoint).map(|()| module),
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
            None => {
                self.upload.report();
                Ok(())
            }
        }
    }
}

struct Filler<'a, 'b> {
    loading: &'a mut Loading<'b>,
    place: Place<'a>,
    /// Scales of the matrix whose levels were just made.
    scales: Option<TensorData>,
    error: Option<Error>,
}

impl Filler<'_, '_> {
    fn tensor<const D: usize>(&mut self, param: &Param<Tensor<D>>) -> Result<Tensor<D>> {
        if self.place.matrix_name().is_some() {
            let scales = self.scales.take().expect("a matrix' levels come before its scales");
            return Ok(scales_on(scales, self.loading.upload.device()));
        }
        let name = self.place.tensor_name();
        let shape = param.lazy_shape().to_vec();
        let Loading { checkpoint, upload, taken } = &mut *self.loading;
        if let Some((format, [levels, scales])) = checkpoint.blocks_of_floats(&name, &shape)? {
            check_finite(&format!("{name}{SCALE_SUFFIX}"), &scales.clone().convert_dtype(DType::F32))?;
            taken.extend(format.names(&name));
            let device = upload.device();
            let weight = BlockWeight::new(levels_on(levels, device), scales_on(scales, device));
            return Ok(unpack(&weight).reshape(param.lazy_shape()));
        }
        let data = checkpoint.data(&name, &shape)?;
        let bytes = data.bytes().len();
        // A bias is small: it is widened like the rest.
        let tensor = if D == 2 && self.place.is_in(&STORED) {
            upload.matrix(data)
        } else {
            let data = data.convert_dtype(DType::F32);
            check_finite(&name, &data)?;
            Tensor::from_data(data, (upload.device(), DType::F32))
        };
        upload.sent(&name, bytes, checkpoint)?;
        taken.insert(name);
        Ok(tensor)
    }

    /// The levels of a matrix in blocks; its scales are kept for the next parameter.
    fn levels<const D: usize>(&mut self, name: &str, param: &Param<Tensor<D, Int>>) -> Result<Tensor<D, Int>> {
        let Some((format, size)) = BlockFormat::of_levels(&param.lazy_shape()) else {
            unreachable!("levels have the shape of a format")
        };
        let Loading { checkpoint, upload, taken } = &mut *self.loading;
        let [levels, scales] = match checkpoint.blocks(name, format, size)? {
            Some(stored) => {
                taken.extend(format.names(name));
                stored
            }
            None => {
                let packed = pack_stored(checkpoint, name, format, size)?;
                taken.insert(name.to_owned());
                packed
            }
        };
        self.scales = Some(scales);
        Ok(levels_on(levels, upload.device()))
    }
}

impl ModuleMapper for Filler<'_, '_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.place.exit(container_type);
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
        let Some(matrix) = self.place.matrix_name() else { return param };
        if self.error.is_some() {
            return param;
        }
        match self.levels(&matrix, &param) {
            Ok(tensor) => Param::initialized(param.id, tensor),
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

/// Levels and scales of a matrix that the checkpoint has as floats, whose pages are let go.
pub(super) fn pack_stored(
    checkpoint: &Checkpoint,
    name: &str,
    format: BlockFormat,
    size: [usize; 2],
) -> Result<[TensorData; 2]> {
    let data = checkpoint.floats(name, format, size)?;
    let packed = pack(&data, format).map_err(|index| Error::TensorNotFinite { name: name.to_owned(), index })?;
    checkpoint.release(name);
    Ok([packed.levels, packed.scales])
}

fn check_finite(name: &str, data: &TensorData) -> Result<()> {
    let values = data.as_slice::<f32>().unwrap_or_default();
    match values.iter().position(|value| !value.is_finite()) {
        Some(index) => Err(Error::TensorNotFinite { name: name.to_owned(), index }),
        None => Ok(()),
    }
}
