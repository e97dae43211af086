//! Weights on disk: memory-mapped safetensors, one file or an index with shards.

mod files;
mod folder;
mod loading;
mod names;
mod parameters;
mod place;
mod upload;
mod writing;

pub use loading::Loading;
pub use parameters::Parameters;
pub use place::Names;

use crate::{Error, Result, Weights, foreign, quant::BlockFormat};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Shape, TensorData};
use safetensors::{Dtype, SafeTensors};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What a checkpoint may say of a tensor's type.
const DTYPES: &str = "BF16, F16 or F32";

/// The tensors of a model folder, found by name and read where they lie.
///
/// Opening parses the headers only. The files are memory-mapped: they must not be changed or cut while a model uses them.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    shards: Vec<Shard>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone)]
struct Shard {
    path: PathBuf,
    bytes: bytes::Bytes,
    /// Where the bytes are mapped, if they are.
    map: Option<files::Map>,
}

#[derive(Debug, Clone)]
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`: `model.safetensors.index.json` and the shards it names, else `model.safetensors`, else the
    /// only `*.safetensors`. Hidden files are not looked at.
    ///
    /// Names of tensors become the released ones where one prefix explains all of them (`module.`, `base_model.model.`), where a
    /// wrapper such as `torch.compile` stands in them (`_orig_mod.`), or where `model.` is missing.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Json`] or [`Error::Safetensors`] naming the file; [`Error::TensorMissing`] if a shard
    /// lacks a tensor that the index promises; [`Error::ModelFolder`] if the folder holds weights of another kind, an adapter, or
    /// several safetensors without an index.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let listing = files::list(folder.as_ref())?;
        let mut checkpoint = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        for path in listing.files {
            let map = files::Map::open(&path)?;
            checkpoint.add(Shard { path, bytes: map.bytes(), map: Some(map) })?;
        }
        if let Some(name) = listing.promised.into_iter().find(|name| !checkpoint.tensors.contains_key(name)) {
            return Err(checkpoint.missing(&name, &[]));
        }
        if let Some(adapter) = checkpoint.names().find_map(folder::adapter_tensor) {
            return Err(folder::refused(folder.as_ref(), adapter));
        }
        checkpoint.take_released_names();
        Ok(checkpoint)
    }

    /// Says what a folder that lacks a file of a model is instead: an adapter, weights of another format, the hub's cache, a file.
    pub fn explain(folder: impl AsRef<Path>) -> Option<Error> {
        folder::explain(folder.as_ref())
    }

    /// A checkpoint from one safetensors file in memory; `name` stands for its path in messages.
    ///
    /// # Errors
    /// [`Error::Safetensors`].
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        let mut checkpoint = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        checkpoint.add(Shard { path: PathBuf::from(name), bytes: bytes::Bytes::from_static(bytes), map: None })?;
        Ok(checkpoint)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor as it lies in the file; the bytes are shared, not copied, unless they are misaligned.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::TensorShape`] if its shape is not `expected`, [`Error::TensorDtype`].
    pub fn data(&self, name: &str, expected: &[usize]) -> Result<TensorData> {
        let entry = self.entry(name, expected)?;
        let dtype = float_dtype(entry.dtype).ok_or_else(|| wrong_dtype(name, entry, DTYPES))?;
        Ok(TensorData::from_bytes(self.bytes(entry, dtype), Shape::from(expected), dtype))
    }

    /// The format of the matrices that are in [blocks](crate::quant), as the first of them by name says.
    pub fn weights(&self) -> Weights {
        let format = self.names().find_map(|name| Some(BlockFormat::of_name(name)?.0));
        format.map_or(Weights::Stored, Weights::from)
    }

    /// The levels of a matrix in blocks, four in a word, and its scales; nothing if there are none of this format.
    fn blocks(&self, name: &str, format: BlockFormat, size: [usize; 2]) -> Result<Option<[TensorData; 2]>> {
        let levels = format.levels_name(name);
        if !self.tensors.contains_key(&levels) {
            return Ok(None);
        }
        let (dtype, shape) = format.stored_levels(size);
        let expected = match format {
            BlockFormat::Q8 => "I8",
            BlockFormat::Q4 => "U8",
        };
        let part =
            |name: &str, shape: &[usize], (dtype, expected): (Dtype, &'static str)| match self.entry(name, shape)? {
                entry if entry.dtype == dtype => Ok(entry),
                entry => Err(wrong_dtype(name, entry, expected)),
            };
        let levels = self.bytes(part(&levels, &shape, (dtype, expected))?, DType::I32);
        let levels = TensorData::from_bytes(levels, Shape::from(format.levels_shape(size)), DType::I32);
        let shape = BlockFormat::scales_shape(size);
        let [_, scales] = format.names(name);
        let scales = self.bytes(part(&scales, &shape, (Dtype::F16, "F16"))?, DType::F16);
        Ok(Some([levels, TensorData::from_bytes(scales, Shape::from(shape), DType::F16)]))
    }

    /// The format, levels and scales of a tensor that is there in blocks alone, as a matrix of its first dimension's outputs.
    fn blocks_of_floats(&self, name: &str, shape: &[usize]) -> Result<Option<(BlockFormat, [TensorData; 2])>> {
        let stored = |format: &BlockFormat| self.tensors.contains_key(&format.levels_name(name));
        let (Some(format), Some((&outputs, rest))) = (BlockFormat::ALL.into_iter().find(stored), shape.split_first())
        else {
            return Ok(None);
        };
        let blocks = self.blocks(name, format, [outputs, rest.iter().product()])?;
        Ok(blocks.map(|blocks| (format, blocks)))
    }

    /// The numbers of a matrix that is to be in blocks.
    fn floats(&self, name: &str, asked: BlockFormat, size: [usize; 2]) -> Result<TensorData> {
        match BlockFormat::ALL.into_iter().find(|format| self.tensors.contains_key(&format.levels_name(name))) {
            Some(found) => Err(Error::WeightFormat { name: name.to_owned(), found: found.into(), asked: asked.into() }),
            None => self.data(name, &size),
        }
    }

    /// Takes a tensor's pages out of this process' memory until they are read again.
    fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name)
            && let Some(map) = &self.shards[entry.shard].map
        {
            map.release(entry.range.clone());
        }
    }

    fn entry(&self, name: &str, expected: &[usize]) -> Result<&Entry> {
        let entry = self.tensors.get(name).ok_or_else(|| self.missing(name, expected))?;
        if entry.shape != expected {
            let (found, expected) = (entry.shape.clone(), expected.to_vec());
            return Err(Error::TensorShape { name: name.to_owned(), found, expected });
        }
        Ok(entry)
    }

    fn missing(&self, name: &str, expected: &[usize]) -> Error {
        let found = names::instead_of(name, self.names());
        Error::TensorMissing { name: name.to_owned(), expected: expected.to_vec(), found }
    }

    fn bytes(&self, entry: &Entry, dtype: DType) -> Bytes {
        let slice = self.shards[entry.shard].bytes.slice(entry.range.clone());
        match slice.as_ptr().align_offset(dtype.size()) {
            0 => Bytes::from_shared(slice, AllocationProperty::Other),
            _ => Bytes::from_bytes_vec(slice.to_vec()),
        }
    }

    /// Starts to fill modules on `device` with these tensors.
    pub fn load_on<'a>(&'a self, device: &'a Device) -> Loading<'a> {
        Loading::new(self, device)
    }

    fn take_released_names(&mut self) {
        let Some(released) = names::released(self.names()) else { return };
        if let Some((stored, read)) = self.names().zip(&released).find(|(stored, read)| stored != read) {
            tracing::info!(stored, read, "tensors have other names than the released ones");
        }
        let entries = std::mem::take(&mut self.tensors).into_values();
        self.tensors = released.into_iter().zip(entries).collect();
    }

    fn add(&mut self, file: Shard) -> Result<()> {
        let Shard { path, bytes, .. } = &file;
        let invalid = |reason: String| Error::Safetensors { path: path.clone(), reason };
        let (header, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| invalid(foreign::name(bytes).map_or_else(|| error.to_string(), str::to_owned)))?;
        let start = header + size_of::<u64>();
        let shard = self.shards.len();
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let range = start + from..start + to;
            if range.end > bytes.len() {
                let reason =
                    format!("tensor {name} ends at byte {} of {}, the file is cut off", range.end, bytes.len());
                return Err(invalid(reason));
            }
            let entry = Entry { shard, dtype: info.dtype, shape: info.shape.clone(), range };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                let other = self.shards.get(other.shard).map_or(path, |shard| &shard.path);
                return Err(invalid(format!("tensor {name} is also in {}", other.display())));
            }
        }
        self.shards.push(file);
        Ok(())
    }
}

fn wrong_dtype(name: &str, entry: &Entry, expected: &'static str) -> Error {
    Error::TensorDtype { name: name.to_owned(), found: format!("{:?}", entry.dtype), expected }
}

fn float_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        Dtype::F32 => Some(DType::F32),
        _ => None,
    }
}
