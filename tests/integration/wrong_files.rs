//! Each way in which a model folder can be wrong has its own error, which names what is wrong.

mod config;
mod layout;
mod logs;
mod names;
mod stead;
mod tokenizer;

use deepseek_ocr::{DeepseekOcr, Device, Error};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{collections::BTreeMap, fs, path::Path};
use tempfile::TempDir;

const WEIGHTS: &str = "model.safetensors";
const ROUTER: &str = "model.layers.1.mlp.gate.weight";

/// A small checkpoint as a folder of files that may be spoiled.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in ["config.json", "tokenizer.json", WEIGHTS] {
        fs::copy(crate::first::folder().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn load(folder: &TempDir) -> Error {
    DeepseekOcr::from_dir(folder.path(), &Device::default()).expect_err("the folder is wrong")
}

/// What the model of a folder writes for a page.
fn ids(folder: &TempDir) -> Vec<u32> {
    let model = DeepseekOcr::from_dir(folder.path(), &Device::default()).unwrap();
    let (page, _) = crate::first::pages().remove(0);
    model.generate(crate::mini::request(&page).with_max_new_tokens(30)).unwrap().ids().to_vec()
}

/// Rewrites the weights after `change`: name to type, shape and bytes.
fn with_tensors(change: impl FnOnce(&mut BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>)) -> TempDir {
    let folder = folder();
    let path = folder.path().join(WEIGHTS);
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let parts = |(name, view): (&str, TensorView<'_>)| {
        (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec()))
    };
    let mut tensors = file.iter().map(parts).collect();
    change(&mut tensors);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    folder
}

#[test]
fn folders_as_they_are_made_load_without_a_word() {
    let parity = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parity/checkpoint");
    for path in [folder().path(), &parity] {
        let (model, said) = logs::of(|| DeepseekOcr::from_dir(path, &Device::default()));
        assert!(model.is_ok() && said.is_empty(), "{said}");
    }
}

#[test]
fn a_file_that_is_not_there() {
    for file in ["config.json", "tokenizer.json"] {
        let folder = folder();
        fs::remove_file(folder.path().join(file)).unwrap();
        let error = load(&folder);
        assert!(matches!(&error, Error::Read { path, .. } if path.ends_with(file)), "{error}");
    }
    let folder = folder();
    fs::remove_file(folder.path().join(WEIGHTS)).unwrap();
    assert!(matches!(load(&folder), Error::Read { .. }));
    assert!(matches!(DeepseekOcr::from_dir("/no/such/folder", &Device::default()), Err(Error::Read { .. })));
}

#[test]
fn safetensors_that_are_cut_or_lie() {
    let bytes = fs::read(folder().path().join(WEIGHTS)).unwrap();
    let mut long_header = bytes.clone();
    long_header[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    let mut longer_header = bytes.clone();
    longer_header[..8].copy_from_slice(&(bytes.len() as u64 * 2).to_le_bytes());
    let mut shorter_header = bytes.clone();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    shorter_header[..8].copy_from_slice(&(header - 3).to_le_bytes());
    let cases = [
        ("half", &bytes[..bytes.len() / 2]),
        ("one byte short", &bytes[..bytes.len() - 1]),
        ("inside the header", &bytes[..100]),
        ("empty", &[]),
        ("a header of 2^64", &long_header),
        ("a header beyond the file", &longer_header),
        ("a header that ends early", &shorter_header),
        ("not safetensors", b"GGUF and so on, it is another format altogether"),
    ];
    for (case, bytes) in cases {
        let folder = folder();
        fs::write(folder.path().join(WEIGHTS), bytes).unwrap();
        let error = load(&folder);
        assert!(matches!(&error, Error::Safetensors { path, .. } if path.ends_with(WEIGHTS)), "{case}: {error}");
    }
}

#[test]
fn tensors_that_do_not_fit() {
    let error = load(&with_tensors(|tensors| drop(tensors.remove("model.norm.weight"))));
    assert_eq!(error.to_string(), "the checkpoint lacks tensor model.norm.weight (expected shape [256])");

    let extra = (Dtype::F32, vec![1], vec![0; 4]);
    let error = load(&with_tensors(|tensors| drop(tensors.insert("model.extra".into(), extra))));
    assert_eq!(error.to_string(), "the checkpoint holds 1 unexpected tensors, the first is model.extra");

    let error = load(&with_tensors(|tensors| tensors.get_mut("lm_head.weight").unwrap().1 = vec![256, 128]));
    assert_eq!(error.to_string(), "tensor lm_head.weight has shape [256, 128], expected [128, 256]");

    let error = load(&with_tensors(|tensors| tensors.get_mut("model.norm.weight").unwrap().0 = Dtype::I16));
    assert_eq!(error.to_string(), "tensor model.norm.weight has data type I16, expected BF16, F16 or F32");
}

#[test]
fn a_router_with_nan() {
    let nan = half::bf16::NAN.to_le_bytes();
    let error = load(&with_tensors(|tensors| tensors.get_mut(ROUTER).unwrap().2[10..12].copy_from_slice(&nan)));
    assert!(matches!(&error, Error::TensorNotFinite { name, index: 5 } if name == ROUTER), "{error}");
}

#[test]
fn harmless_names_are_tolerated() {
    let folder = with_tensors(|tensors| {
        let ids = (Dtype::I64, vec![1, 2], vec![0; 16]);
        tensors.insert("model.vision_model.embeddings.position_ids".into(), ids);
    });
    assert!(DeepseekOcr::from_dir(folder.path(), &Device::default()).is_ok());
}

#[test]
fn other_float_types_load() {
    let widen = |(dtype, _, data): &mut (Dtype, Vec<usize>, Vec<u8>)| {
        let values = data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32());
        *data = values.flat_map(f32::to_le_bytes).collect();
        *dtype = Dtype::F32;
    };
    let folder = with_tensors(|tensors| tensors.values_mut().for_each(widen));
    assert_eq!(ids(&folder), ids(&self::folder()));
}

#[test]
fn an_index_that_promises_too_much_or_reaches_outside() {
    let index =
        |folder: &TempDir, json: &str| fs::write(folder.path().join("model.safetensors.index.json"), json).unwrap();
    let folder = folder();
    index(&folder, r#"{"weight_map": {"model.not_there": "model.safetensors"}}"#);
    let error = load(&folder);
    assert!(matches!(&error, Error::TensorMissing { name, .. } if name == "model.not_there"), "{error}");
    for outside in ["../secret.safetensors", "/etc/passwd", "a/b.safetensors"] {
        index(&folder, &format!(r#"{{"weight_map": {{"x": "{outside}"}}}}"#));
        assert!(matches!(load(&folder), Error::Json { .. }), "{outside}");
    }
    for broken in ["", "{", "[]", r#"{"weight_map": 3}"#] {
        index(&folder, broken);
        assert!(matches!(load(&folder), Error::Json { .. }), "{broken}");
    }
}

#[test]
fn shards_are_joined() {
    let folder = folder();
    let path = folder.path().join(WEIGHTS);
    let bytes = fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (first, second): (Vec<_>, Vec<_>) = file.iter().partition(|(name, _)| name.len() % 2 == 0);
    let mut map = serde_json::Map::new();
    for (shard, tensors) in [("model-1.safetensors", first), ("model-2.safetensors", second)] {
        map.extend(tensors.iter().map(|(name, _)| ((*name).to_owned(), shard.into())));
        fs::write(folder.path().join(shard), safetensors::serialize(tensors, None).unwrap()).unwrap();
    }
    fs::remove_file(&path).unwrap();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    assert!(DeepseekOcr::from_dir(folder.path(), &Device::default()).is_ok());
}
