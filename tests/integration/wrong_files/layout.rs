//! Which files of a folder are the model, and folders that hold something else.

use super::{WEIGHTS, folder, ids, load};
use deepseek_ocr::{DeepseekOcr, Device, Error};
use std::fs;
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";

fn loads(folder: &TempDir) {
    DeepseekOcr::from_dir(folder.path(), &Device::default()).unwrap();
}

fn write(folder: &TempDir, files: &[&str]) {
    files.iter().for_each(|file| fs::write(folder.path().join(file), b"\0\x05\x16\x07").unwrap());
}

/// The reason for which a folder is none of a model.
fn refused(folder: &TempDir) -> String {
    match load(folder) {
        Error::ModelFolder { path, reason } if path == folder.path() => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn hidden_files_are_ignored() {
    let folder = folder();
    write(&folder, &["._model.safetensors", "._config.json", "._tokenizer.json", ".model-2.safetensors", ".DS_Store"]);
    fs::create_dir(folder.path().join("old.safetensors")).unwrap();
    loads(&folder);
    // The only file that is not hidden, whatever it is called.
    let name = "model-00001-of-000001.safetensors";
    fs::rename(folder.path().join(WEIGHTS), folder.path().join(name)).unwrap();
    write(&folder, &["._model-00001-of-000001.safetensors"]);
    loads(&folder);
    let copy = TempDir::new().unwrap();
    DeepseekOcr::loader(folder.path()).convert(copy.path()).unwrap();
    assert!(!copy.path().join("._config.json").exists());
    loads(&copy);
}

#[test]
fn one_of_several_weights_is_never_chosen_by_chance() {
    let folder = folder();
    fs::copy(folder.path().join(WEIGHTS), folder.path().join("consolidated.safetensors")).unwrap();
    // By its name.
    let (_, said) = super::logs::of(|| loads(&folder));
    assert!(said.contains("WARN") && said.contains("left=[\"consolidated.safetensors\"]"), "{said}");
    fs::rename(folder.path().join(WEIGHTS), folder.path().join("model-1.safetensors")).unwrap();
    let reason = refused(&folder);
    assert!(reason.contains("consolidated.safetensors") && reason.contains("model-1.safetensors"), "{reason}");
    assert!(reason.contains(INDEX), "{reason}");
}

#[test]
fn the_index_says_which_weights_are_read() {
    let folder = folder();
    let name = "model-00001-of-000001.safetensors";
    let expected = ids(&folder);
    let tensors = super::names::all(&folder);
    fs::rename(folder.path().join(WEIGHTS), folder.path().join(name)).unwrap();
    write(&folder, &["consolidated.safetensors", WEIGHTS]);
    let map: serde_json::Map<_, _> = tensors.into_iter().map(|tensor| (tensor, name.into())).collect();
    fs::write(folder.path().join(INDEX), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    assert_eq!(ids(&folder), expected);
}

#[test]
fn two_shards_with_the_same_tensor_are_refused() {
    let folder = folder();
    fs::copy(folder.path().join(WEIGHTS), folder.path().join("b.safetensors")).unwrap();
    let map = serde_json::json!({ "weight_map": { "lm_head.weight": WEIGHTS, "model.norm.weight": "b.safetensors" } });
    fs::write(folder.path().join(INDEX), map.to_string()).unwrap();
    let error = load(&folder).to_string();
    assert!(error.contains("is also in") && error.contains("b.safetensors"), "{error}");
}

#[test]
fn shards_that_are_not_there_are_named() {
    let folder = folder();
    let map =
        serde_json::json!({ "weight_map": { "a": "model-1.safetensors", "b": "model-2.safetensors", "c": WEIGHTS } });
    fs::write(folder.path().join(INDEX), map.to_string()).unwrap();
    match load(&folder) {
        Error::Read { path, source } => {
            assert!(path.ends_with("model-1.safetensors"), "{}", path.display());
            assert_eq!(source.to_string(), format!("2 of the 3 files that {INDEX} names are not there"));
        }
        other => panic!("{other}"),
    }
    fs::write(folder.path().join(INDEX), r#"{"weight_map": {}}"#).unwrap();
    assert!(load(&folder).to_string().contains("names no file"));
}

#[test]
fn an_adapter_is_no_model() {
    let adapter = TempDir::new().unwrap();
    write(&adapter, &["adapter_config.json", "adapter_model.safetensors", "tokenizer.json"]);
    let reason = refused(&adapter);
    assert!(reason.contains("LoRA adapter") && reason.contains("merge"), "{reason}");
    // Nor is a model with one beside it the model that was trained.
    let folder = folder();
    write(&folder, &["adapter_model.safetensors"]);
    assert!(refused(&folder).contains("adapter_model.safetensors belongs to a LoRA adapter"));
}

#[test]
fn an_adapter_inside_the_weights_is_named() {
    let folder = super::with_tensors(|tensors| {
        let name = "model.layers.0.self_attn.q_proj";
        let base = tensors.remove(&format!("{name}.weight")).unwrap();
        tensors.insert(format!("{name}.lora_A.default.weight"), base.clone());
        tensors.insert(format!("{name}.base_layer.weight"), base);
    });
    assert!(refused(&folder).contains("q_proj.base_layer.weight belongs to a LoRA adapter"));
}

#[test]
fn weights_in_another_format_are_named() {
    for (file, kind) in [
        ("pytorch_model-00001-of-00002.bin", "of PyTorch"),
        ("consolidated.00.pth", "of PyTorch"),
        ("DeepSeek-OCR-Q4_K_M.gguf", "in GGUF"),
        ("model.safetensors.part", "of a download that did not finish"),
    ] {
        let folder = folder();
        fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
        write(&folder, &[file]);
        let reason = refused(&folder);
        assert!(
            reason.contains(&format!("{file} holds weights {kind}")) && reason.contains("get the safetensors"),
            "{reason}"
        );
        // Without a configuration either.
        fs::remove_file(folder.path().join("config.json")).unwrap();
        assert!(refused(&folder).contains(kind));
    }
}

#[test]
fn what_is_no_folder_of_a_model_is_named() {
    let folder = folder();
    let error = DeepseekOcr::from_dir(folder.path().join(WEIGHTS), &Device::default()).unwrap_err();
    assert!(error.to_string().contains("name the folder that it is in"), "{error}");
    let cache = TempDir::new().unwrap();
    fs::create_dir_all(cache.path().join("snapshots/2c968b433af61a059311cbf8997765023806a24d")).unwrap();
    assert!(refused(&cache).contains("snapshots"));
}
