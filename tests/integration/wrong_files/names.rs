//! Tensors under the names that other tools give them.

use super::{WEIGHTS, folder, ids, load, logs, with_tensors};
use deepseek_ocr::{DeepseekOcr, Device, Error};
use std::fs;
use tempfile::TempDir;

/// The names of a folder's tensors.
pub fn all(folder: &TempDir) -> Vec<String> {
    let bytes = fs::read(folder.path().join(WEIGHTS)).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    file.names().into_iter().map(ToString::to_string).collect()
}

fn renamed(change: impl Fn(&str) -> String) -> TempDir {
    with_tensors(|tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (change(&name), tensor)).collect();
    })
}

#[test]
fn one_prefix_of_all_tensors_is_taken_off() {
    let expected = ids(&folder());
    for prefix in
        ["_orig_mod.", "module.", "language_model.", "base_model.model.", "module._orig_mod.", "model.", "student."]
    {
        assert_eq!(ids(&renamed(|name| format!("{prefix}{name}"))), expected, "{prefix}");
    }
}

#[test]
fn other_names_are_reported() {
    let folder = renamed(|name| format!("module.{name}"));
    let (model, said) = logs::of(|| DeepseekOcr::from_dir(folder.path(), &Device::default()));
    assert!(model.is_ok());
    assert!(said.contains("stored=\"module.lm_head.weight\" read=\"lm_head.weight\""), "{said}");
}

#[test]
fn a_missing_model_is_put_in_front() {
    let bare = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
    assert_eq!(ids(&renamed(bare)), ids(&folder()));
    assert_eq!(ids(&renamed(|name| format!("module.{}", bare(name)))), ids(&folder()));
}

#[test]
fn compiled_parts_are_found() {
    let compiled = |name: &str| {
        name.replace("model.layers.", "model.layers._orig_mod.").replace("sam_model.", "sam_model._orig_mod.")
    };
    assert_eq!(ids(&renamed(compiled)), ids(&folder()));
}

#[test]
fn a_checkpoint_with_a_prefix_can_be_converted() {
    let (prefixed, copy) = (renamed(|name| format!("module.{name}")), TempDir::new().unwrap());
    DeepseekOcr::loader(prefixed.path()).with_weights(deepseek_ocr::Weights::Q8).convert(copy.path()).unwrap();
    assert!(all(&copy).contains(&"model.norm.weight".to_owned()));
    DeepseekOcr::from_dir(copy.path(), &Device::default()).unwrap();
}

#[test]
fn names_that_one_prefix_does_not_explain_are_shown() {
    let mixed = renamed(|name| format!("{}{name}", if name.contains("layers") { "language." } else { "vision." }));
    let error = load(&mixed).to_string();
    assert!(error.starts_with("the checkpoint lacks tensor model."), "{error}");
    assert!(error.contains("; it calls its tensors vision.model."), "{error}");

    let gguf = renamed(|name| format!("blk/{}", name.replace('.', "/")));
    let error = load(&gguf).to_string();
    assert!(error.contains("; it calls its tensors blk/"), "{error}");
}

#[test]
fn a_copy_beside_the_tensors_is_never_taken_for_them() {
    let averaged = with_tensors(|tensors| {
        let copies: Vec<_> = tensors.iter().map(|(name, tensor)| (format!("module.{name}"), tensor.clone())).collect();
        tensors.extend(copies);
    });
    let error = load(&averaged);
    assert!(matches!(&error, Error::TensorUnexpected { first, .. } if first.starts_with("module.")), "{error}");
}
