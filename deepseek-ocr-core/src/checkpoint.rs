//! Weights on disk: memory-mapped safetensors, one file or an index with shards.

mod files;
mod loading;

pub use loading::{Loading, Names};

use crate::{Error, Result};
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
}

#[derive(Debug, Clone)]
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`: `model.safetensors.index.json` and the shards it names, else the only `*.safetensors`.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Json`] or [`Error::Safetensors`] naming the file; [`Error::TensorMissing`] if a shard
    /// lacks a tensor that the index promises.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let listing = files::list(folder.as_ref())?;
        let mut checkpoint = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        for path in listing.files {
            let bytes = files::map(&path)?;
            checkpoint.add(path, bytes)?;
        }
        match listing.promised.into_iter().find(|name| !checkpoint.tensors.contains_key(name)) {
            Some(name) => Err(Error::TensorMissing { name, expected: Vec::new() }),
            None => Ok(checkpoint),
        }
    }

    /// A checkpoint from one safetensors file in memory; `name` stands for its path in messages.
    ///
    /// # Errors
    /// [`Error::Safetensors`].
    pub fn from_static(name: &str, bytes: &'static [u8]) -> Result<Self> {
        let mut checkpoint = Self { shards: Vec::new(), tensors: BTreeMap::new() };
        checkpoint.add(PathBuf::from(name), bytes::Bytes::from_static(bytes))?;
        Ok(checkpoint)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
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
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| Error::TensorMissing { name: name.to_owned(), expected: expected.to_vec() })?;
        if entry.shape != expected {
            let (found, expected) = (entry.shape.clone(), expected.to_vec());
            return Err(Error::TensorShape { name: name.to_owned(), found, expected });
        }
        let dtype = float_dtype(entry.dtype).ok_or_else(|| Error::TensorDtype {
            name: name.to_owned(),
            found: format!("{:?}", entry.dtype),
            expected: DTYPES,
        })?;
        let slice = self.shards[entry.shard].bytes.slice(entry.range.clone());
        let bytes = match slice.as_ptr().align_offset(dtype.size()) {
            0 => Bytes::from_shared(slice, AllocationProperty::Other),
            _ => Bytes::from_bytes_vec(slice.to_vec()),
        };
        Ok(TensorData::from_bytes(bytes, Shape::from(entry.shape.clone()), dtype))
    }

    /// Starts to fill modules on `device` with these tensors.
    pub fn load_on<'a>(&'a self, device: &'a Device) -> Loading<'a> {
        Loading::new(self, device)
    }

    fn add(&mut self, path: PathBuf, bytes: bytes::Bytes) -> Result<()> {
        let invalid = |reason: String| Error::Safetensors { path: path.clone(), reason };
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| invalid(e.to_string()))?;
        let start = header + size_of::<u64>();
        let shard = self.shards.len();
        for (name, info) in metadata.tensors() {
            let (from, to) = info.data_offsets;
            let range = start + from..start + to;
            if range.end > bytes.len() {
                let reason = format!("tensor {name} ends at byte {} of {}, the file is cut off", range.end, bytes.len());
                return Err(invalid(reason));
            }
            let entry = Entry { shard, dtype: info.dtype, shape: info.shape.clone(), range };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                let other = self.shards.get(other.shard).map_or(&path, |shard| &shard.path);
                return Err(invalid(format!("tensor {name} is also in {}", other.display())));
            }
        }
        self.shards.push(Shard { path, bytes });
        Ok(())
    }
}

fn float_dtype(dtype: Dtype) -> Option<DType> {
    match dtype {
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        Dtype::F32 => Some(DType::F32),
        _ => None,
    }
}
