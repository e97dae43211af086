//! A run on the disk: weights, what the optimizer remembers, and how far it is.

use crate::{
    network::Network,
    optimizer::{Optimizer, Tensors},
};
use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{DType, Tensor, TensorData};
use deepseek_ocr_core::Parameters;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const PROGRESS: &str = "progress.json";

/// How many states of a run are kept.
const KEPT: usize = 2;

/// How far a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Steps that are done.
    pub step: usize,
    /// Characters, or whatever the tokenizer's tokens are, that were read.
    pub tokens: usize,
    pub seconds: f64,
}

/// Writes a state into the run's folder. It is there whole or not at all.
pub(crate) fn save(run: &Path, network: Network, optimizer: &Optimizer, progress: Progress) -> Result<Network> {
    let part = run.join("part");
    if part.exists() {
        fs::remove_dir_all(&part)?;
    }
    fs::create_dir_all(&part)?;
    let mut taken = Taken::default();
    let network = network.map_state(&mut taken);
    write(&part.join(WEIGHTS), &taken.0)?;
    write(&part.join(OPTIMIZER), &optimizer.to_tensors())?;
    fs::write(part.join(PROGRESS), serde_json::to_vec_pretty(&progress)?)?;
    let folder = run.join(format!("step-{:08}", progress.step));
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&part, &folder)?;
    let states = states(run)?;
    for old in &states[..states.len().saturating_sub(KEPT)] {
        fs::remove_dir_all(old)?;
    }
    Ok(network)
}

/// The newest state of a run, if there is one.
pub(crate) fn newest(run: &Path) -> Result<Option<PathBuf>> {
    Ok(states(run)?.pop())
}

/// Goes on from a state.
pub(crate) fn restore(state: &Path, network: Network, optimizer: &mut Optimizer) -> Result<(Network, Progress)> {
    let network = put(&state.join(WEIGHTS), network)?;
    optimizer.restore(read(&state.join(OPTIMIZER))?);
    let progress = serde_json::from_slice(&fs::read(state.join(PROGRESS))?)?;
    Ok((network, progress))
}

/// The weights of a state.
pub(crate) fn weights(state: &Path) -> Result<Tensors> {
    read(&state.join(WEIGHTS))
}

/// Replaces every parameter that a state holds by the tensor of its name.
fn put(path: &Path, network: Network) -> Result<Network> {
    let mut put = Put { tensors: read(path)?, wrong: None };
    let network = network.map_state(&mut put);
    if let Some(name) = put.wrong {
        bail!("{}: {name} is missing or has another shape", path.display());
    }
    if let Some(name) = put.tensors.keys().next() {
        bail!("{}: the recipe has no {name}", path.display());
    }
    Ok(network)
}

fn states(run: &Path) -> Result<Vec<PathBuf>> {
    let mut states = Vec::new();
    if run.is_dir() {
        for entry in fs::read_dir(run)? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("step-")) {
                states.push(path);
            }
        }
    }
    states.sort();
    Ok(states)
}

/// Writes tensors in their types.
pub(crate) fn write(path: &Path, tensors: &Tensors) -> Result<()> {
    let mut views = Vec::with_capacity(tensors.len());
    for (name, data) in tensors {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            DType::BF16 => Dtype::BF16,
            DType::F16 => Dtype::F16,
            DType::I8 => Dtype::I8,
            DType::U8 => Dtype::U8,
            other => bail!("{name}: {other:?} is not written"),
        };
        views.push((name.clone(), TensorView::new(dtype, data.shape().to_vec(), data.bytes())?));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(views, Some(metadata), path).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> Result<Tensors> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        ensure!(view.dtype() == Dtype::F32, "{}: {name} is not in f32", path.display());
        let values =
            view.data().chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        tensors.insert(name, TensorData::new(values.collect::<Vec<_>>(), view.shape().to_vec()));
    }
    Ok(tensors)
}

/// Takes the values of all parameters.
#[derive(Default)]
pub(crate) struct Taken(pub Tensors);

impl Parameters for Taken {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        self.0.insert(name.to_owned(), tensor.to_data());
        tensor
    }
}

struct Put {
    tensors: Tensors,
    wrong: Option<String>,
}

impl Parameters for Put {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        match self.tensors.remove(name) {
            Some(data) if *data.shape() == tensor.shape() => Tensor::from_data(data, (&tensor.device(), DType::F32)),
            _ => {
                self.wrong.get_or_insert_with(|| name.to_owned());
                tensor
            }
        }
    }
}
