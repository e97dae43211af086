//! What stands in a file's stead is named: pointers, pages, other encodings, other formats.

use super::{WEIGHTS, folder, load};
use deepseek_ocr::{DeepseekOcr, Device, Error};
use std::fs;
use tempfile::TempDir;

const INDEX: &str = "model.safetensors.index.json";
const JSONS: [&str; 4] = ["config.json", "tokenizer.json", INDEX, "processor_config.json"];
const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:a02f8fd5228c\nsize 9979544\n";

/// A folder with each of the JSON files.
fn whole() -> TempDir {
    let folder = folder();
    let map: serde_json::Map<_, _> =
        super::names::all(&folder).into_iter().map(|name| (name, WEIGHTS.into())).collect();
    fs::write(folder.path().join(INDEX), serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    fs::write(folder.path().join("processor_config.json"), r#"{"normalize": true}"#).unwrap();
    folder
}

/// Asserts that every JSON file, changed so, is refused with this in the message.
fn each_is_refused(change: impl Fn(&str) -> Vec<u8>, expected: &str) {
    for file in JSONS {
        let folder = whole();
        let path = folder.path().join(file);
        fs::write(&path, change(&fs::read_to_string(&path).unwrap())).unwrap();
        let error = load(&folder);
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains(file), "{file}: {message}");
        assert!(matches!(error, Error::Json { .. } | Error::Tokenizer { .. }), "{file}: {message}");
    }
}

#[test]
fn json_with_a_byte_order_mark_is_read() {
    let folder = whole();
    for file in JSONS {
        let path = folder.path().join(file);
        let marked = format!("\u{FEFF}{}", fs::read_to_string(&path).unwrap());
        fs::write(&path, marked).unwrap();
    }
    DeepseekOcr::from_dir(folder.path(), &Device::default()).unwrap();
}

#[test]
fn json_in_utf16_is_named() {
    let wide = |mark: &'static str, bytes: fn(u16) -> [u8; 2]| {
        move |text: &str| -> Vec<u8> { format!("{mark}{text}").encode_utf16().flat_map(bytes).collect() }
    };
    for mark in ["", "\u{FEFF}"] {
        each_is_refused(wide(mark, u16::to_le_bytes), "UTF-16");
        each_is_refused(wide(mark, u16::to_be_bytes), "UTF-16");
    }
}

#[test]
fn json_that_is_something_else_is_named() {
    each_is_refused(
        |_| POINTER.into(),
        "it is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder",
    );
    each_is_refused(|_| b"<!DOCTYPE html>\n<html><head><title>Sign in</title>".to_vec(), "it is a web page");
    each_is_refused(|_| Vec::new(), "it is empty");
    each_is_refused(|text| text.as_bytes()[..text.len() / 2].to_vec(), "it is cut off");
    each_is_refused(
        |text| [text.trim_end().strip_suffix('}').unwrap().as_bytes(), br#", "a": 1, "a": 1}"#].concat(),
        "the key \"a\" twice",
    );
    each_is_refused(|_| b"{\"\xE4\": 1}".to_vec(), "not in UTF-8");
}

#[test]
fn weights_that_are_something_else_are_named() {
    for (bytes, expected) in [
        (POINTER.as_bytes(), "it is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"),
        (&b"<html><body>404"[..], "it is a web page"),
        (&[], "it is empty"),
        (b"GGUF\x03\0\0\0", "it is in GGUF"),
        (b"PK\x03\x04 archive/data.pkl", "PyTorch"),
        (&[0; 5000], "zeros"),
    ] {
        let folder = folder();
        fs::write(folder.path().join(WEIGHTS), bytes).unwrap();
        let error = load(&folder);
        assert!(
            matches!(&error, Error::Safetensors { path, reason } if path.ends_with(WEIGHTS) && reason.contains(expected)),
            "{error}"
        );
    }
}
