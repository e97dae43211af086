//! What a folder holds that has no checkpoint which can be read.

use crate::{Error, Result};
use std::path::Path;

/// Files of an adapter, which is of use only with the model that it was trained on.
const ADAPTER: [&str; 3] = ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"];

/// Endings of weights in other formats.
const OTHERS: [(&str, &str); 12] = [
    (".gguf", "in GGUF, the format of llama.cpp"),
    (".bin", "of PyTorch"),
    (".pt", "of PyTorch"),
    (".pth", "of PyTorch"),
    (".ckpt", "of PyTorch"),
    (".onnx", "in ONNX"),
    (".h5", "in HDF5"),
    (".msgpack", "of Flax"),
    (".npz", "of NumPy"),
    (".part", "of a download that did not finish"),
    (".incomplete", "of a download that did not finish"),
    (".crdownload", "of a download that did not finish"),
];

/// The hub's cache has a model in this folder of a repository's.
const SNAPSHOTS: &str = "snapshots";

/// Names of the files in a folder, sorted; hidden ones, as macOS writes beside others (`._model.safetensors`), are left out.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let entry = entry.map_err(Error::read(folder))?;
        // A name that is not in UTF-8 is none that is looked for.
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !name.starts_with('.') && entry.path().is_file() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Says what a folder is that lacks a file of a model.
pub(super) fn explain(folder: &Path) -> Option<Error> {
    if folder.is_file() {
        return Some(refused(folder, "it is a file, name the folder that it is in"));
    }
    let names = names(folder).ok()?;
    let reason = adapter(&names).or_else(|| {
        let safetensors = names.iter().any(|name| name.ends_with(".safetensors"));
        if safetensors { None } else { other_weights(&names) }
    });
    let cache =
        || folder.join(SNAPSHOTS).is_dir().then(|| "the model is in one of the folders in `snapshots`".to_owned());
    Some(refused(folder, reason.or_else(cache)?))
}

/// Says that these files are an adapter's.
pub(super) fn adapter(names: &[String]) -> Option<String> {
    let name = names.iter().find(|name| ADAPTER.contains(&name.as_str()))?;
    Some(adapter_in(&format!("{name} belongs to")))
}

/// Says that this tensor is an adapter's, if its name is of the kind that PEFT gives.
pub(super) fn adapter_tensor(name: &str) -> Option<String> {
    let of_peft = |part: &str| part.starts_with("lora_") || ["base_layer", "modules_to_save"].contains(&part);
    name.split('.').any(of_peft).then(|| adapter_in(&format!("tensor {name} belongs to")))
}

/// Says that these are weights in another format.
pub(super) fn other_weights(names: &[String]) -> Option<String> {
    let kind = |name: &String| OTHERS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, kind)| *kind);
    let (name, kind) = names.iter().find_map(|name| Some((name, kind(name)?)))?;
    Some(format!("there are no safetensors, and {name} holds weights {kind}: get the safetensors, or convert to them"))
}

pub(super) fn refused(folder: &Path, reason: impl Into<String>) -> Error {
    Error::ModelFolder { path: folder.to_owned(), reason: reason.into() }
}

fn adapter_in(what: &str) -> String {
    format!("{what} a LoRA adapter, which is not applied here: merge it into its model (`merge_and_unload` of PEFT)")
}
