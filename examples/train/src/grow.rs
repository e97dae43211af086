//! A decoder with more blocks, which at first change nothing.

use crate::run::side_files;
use anyhow::{Context, Result, ensure};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;
use std::{fs, path::Path};

const WEIGHTS: &str = "model.safetensors";

/// Fields of a configuration: the number of blocks, and of the first ones that have no experts.
const ALL: &str = "num_hidden_layers";
const DENSE: &str = "first_k_dense_replace";

/// What the tensors that a block's outputs come from are called.
const OUTPUTS: [&str; 2] = [".o_proj.", ".down_proj."];

/// Which block is copied, and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Growth {
    pub block: usize,
    pub copies: usize,
}

/// Writes the model of a folder with copies of one of the decoder's blocks right behind it. Their last matrices are zero, so that the
/// model gives what it gave until they are trained.
pub(crate) fn grow(model: &Path, folder: &Path, growth: Growth) -> Result<()> {
    let (path, config) = (model.join(WEIGHTS), model.join("config.json"));
    let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
    let file = SafeTensors::deserialize(&bytes).with_context(|| path.display().to_string())?;
    let mut parsed: Value =
        serde_json::from_slice(&fs::read(&config)?).with_context(|| config.display().to_string())?;
    let blocks = growth.count(&mut parsed).with_context(|| config.display().to_string())?;
    ensure!(growth.block < blocks, "block: there are {blocks}, counted from 0");

    let tensors = file.tensors();
    let zeros = vec![0; tensors.iter().map(|(_, view)| view.data().len()).max().unwrap_or(0)];
    let mut grown = Vec::with_capacity(tensors.len());
    for (name, view) in &tensors {
        grown.push((growth.name(name, blocks), view.clone()));
        let Some(rest) = name.strip_prefix(&prefix(growth.block)) else { continue };
        let data =
            if OUTPUTS.iter().any(|part| name.contains(part)) { &zeros[..view.data().len()] } else { view.data() };
        for copy in 1..=growth.copies {
            let view = TensorView::new(view.dtype(), view.shape().to_vec(), data)?;
            grown.push((format!("{}{rest}", prefix(growth.block + copy)), view));
        }
    }
    fs::create_dir_all(folder)?;
    for path in side_files(model)? {
        fs::copy(&path, folder.join(path.file_name().unwrap_or_default()))?;
    }
    fs::write(folder.join("config.json"), serde_json::to_vec_pretty(&parsed)?)?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    Ok(safetensors::serialize_to_file(grown, Some(metadata), &folder.join(WEIGHTS))?)
}

impl Growth {
    /// Writes the new number of blocks into the configuration, wherever it says one, and gives the old one.
    fn count(self, config: &mut Value) -> Result<usize> {
        let mut found = None;
        for (part, field) in ["/language_config", ""].into_iter().flat_map(|part| [(part, DENSE), (part, ALL)]) {
            if let Some(Value::Number(count)) = config.pointer_mut(part).and_then(|part| part.get_mut(field)) {
                let blocks = count.as_u64().context(field)? as usize;
                // Copies of a block without experts have none either.
                if self.block < blocks {
                    *count = (blocks + self.copies).into();
                }
                found = found.or((field == ALL).then_some(blocks));
            }
        }
        found.context(ALL)
    }

    /// The name of a tensor once copies stand in front of later blocks.
    fn name(self, name: &str, blocks: usize) -> String {
        let moved = |block| Some((block, name.strip_prefix(&prefix(block))?));
        match (self.block + 1..blocks).find_map(moved) {
            Some((block, rest)) => format!("{}{rest}", prefix(block + self.copies)),
            None => name.to_owned(),
        }
    }
}

/// How the names of a block's tensors begin.
fn prefix(block: usize) -> String {
    format!("model.layers.{block}.")
}
