//! A state of a run as a model folder in the released format.

use crate::{
    network::Network,
    optimizer::Tensors,
    recipe::Recipe,
    run::{self, Trainer},
    state::{self, Taken},
};
use anyhow::{Context, Result};
use burn::tensor::{DType, Device, TensorData};
use half::bf16;
use std::{fs, path::Path};

/// Writes the newest state of `run` into `folder`, adapters merged, matrices and all else in bf16.
pub(crate) fn export(run: &Path, folder: &Path) -> Result<usize> {
    let state = state::newest(run)?.with_context(|| format!("{}: no state", run.display()))?;
    let recipe = Recipe::read(&run.join(run::RECIPE))?;
    let weights = if recipe.lora.is_some() { merged(&recipe, &state)? } else { state::weights(&state)? };
    write(weights, run, folder)?;
    let step = state.file_name().unwrap_or_default().to_string_lossy().trim_start_matches("step-").parse()?;
    Ok(step)
}

/// Writes weights, without what only training has, beside the side files of `model`.
pub(crate) fn write(weights: Tensors, model: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let weights = weights.into_iter().filter(|(name, _)| !name.starts_with(Network::AUXILIARY));
    let weights: Tensors = weights.map(|(name, data)| (name, halved(&data))).collect();
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

fn halved(data: &TensorData) -> TensorData {
    let values: Vec<bf16> = data.iter::<f32>().map(bf16::from_f32).collect();
    let halved = TensorData::new(values, data.shape());
    debug_assert_eq!(halved.dtype(), DType::BF16);
    halved
}
