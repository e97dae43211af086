//! A state of a run as a model folder in the released format.

use crate::{
    network::Network,
    optimizer::Tensors,
    parameters::fits,
    recipe::Recipe,
    run::{self, Trainer},
    state::{self, Taken},
};
use anyhow::{Context, Result};
use burn::{
    module::Param,
    tensor::{DType, Device, Tensor, TensorData},
};
use deepseek_ocr::Weights;
use deepseek_ocr_core::quant::{BlockFormat, BlockWeight};
use half::bf16;
use std::{fs, path::Path};

/// What matrices are kept as.
#[derive(Debug, Clone, Default)]
pub(crate) struct Formats {
    pub all: Weights,
    /// Beginnings of names, or patterns with `*`, of those that are kept in blocks of 4 bits for all that.
    pub narrow: Vec<String>,
}

impl Formats {
    fn of(&self, name: &str) -> Option<BlockFormat> {
        let narrow = self.narrow.iter().any(|pattern| fits(pattern, name));
        if narrow { Weights::Q4.blocks() } else { self.all.blocks() }
    }
}

impl From<Weights> for Formats {
    fn from(all: Weights) -> Self {
        Self { all, narrow: Vec::new() }
    }
}

/// Writes the newest state of `run` into `folder`, adapters merged: in bf16, or with matrices in blocks of 8 or 4 bits.
pub(crate) fn export(run: &Path, folder: &Path, formats: &Formats) -> Result<usize> {
    let state = state::newest(run)?.with_context(|| format!("{}: no state", run.display()))?;
    let recipe = Recipe::read(&run.join(run::RECIPE))?;
    let weights = if recipe.lora.is_some() { merged(&recipe, &state)? } else { state::weights(&state)? };
    write(weights, run, folder, formats)?;
    let step = state.file_name().unwrap_or_default().to_string_lossy().trim_start_matches("step-").parse()?;
    Ok(step)
}

/// Writes weights, without what only training has, beside the side files of `model`.
pub(crate) fn write(weights: Tensors, model: &Path, folder: &Path, formats: &Formats) -> Result<()> {
    fs::create_dir_all(folder)?;
    let weights = weights.into_iter().filter(|(name, _)| !name.starts_with(Network::AUXILIARY));
    let stored = |(name, data): (String, TensorData)| match formats.of(&name) {
        Some(format) if is_matrix(&name, data.shape()) => blocks(&name, data, format),
        _ => vec![(name, halved(&data))],
    };
    let weights: Tensors = weights.flat_map(stored).collect();
    state::write(&folder.join("model.safetensors"), &weights)?;
    for path in run::side_files(model)? {
        fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// The weights of the recipe's model with the adapters of a state in them.
fn merged(recipe: &Recipe, state: &Path) -> Result<Tensors> {
    let mut trainer = Trainer::new(recipe, &Device::flex())?;
    let (network, _) = state::restore(state, trainer.network, &mut trainer.optimizer)?;
    let mut taken = Taken::default();
    network.merged().map(&mut taken);
    Ok(taken.0)
}

/// Whether a tensor is one of a linear layer or a convolution that consists of whole blocks. Routers and embeddings stay exact.
fn is_matrix(name: &str, shape: &[usize]) -> bool {
    let exact = [".mlp.gate.weight", "embed_tokens.weight", "patch_embed.proj.weight"];
    let size = |(&outputs, rest): (&usize, &[usize])| [outputs, rest.iter().product()];
    let fits = shape.len() >= 2 && shape.split_first().map(size).is_some_and(BlockFormat::fits);
    fits && name.ends_with(".weight") && !exact.iter().any(|end| name.ends_with(end))
}

/// Levels and scales of a matrix.
fn blocks(name: &str, data: TensorData, format: BlockFormat) -> Vec<(String, TensorData)> {
    let (device, outputs) = (Device::flex(), data.shape()[0]);
    let inputs = data.num_elements() / outputs;
    let matrix = TensorData::from_bytes_vec(data.bytes().to_vec(), [outputs, inputs], data.dtype());
    let matrix = Tensor::from_data(matrix, (&device, DType::F32));
    let weight = BlockWeight::pack(&Param::from_tensor(matrix), format);
    let (levels, scales) = (weight.levels.val().into_data(), weight.scales.val().into_data());
    let [of_levels, of_scales] = format.names(name);
    vec![(of_levels, format.in_file(levels)), (of_scales, scales)]
}

fn halved(data: &TensorData) -> TensorData {
    let values: Vec<bf16> = data.iter::<f32>().map(bf16::from_f32).collect();
    let halved = TensorData::new(values, data.shape());
    debug_assert_eq!(halved.dtype(), DType::BF16);
    halved
}
