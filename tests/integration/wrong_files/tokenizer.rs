//! Tokenizer files that other tools saved: what would change ids or text is taken out, or refused by name.

use super::{folder, load};
use deepseek_ocr::Tokenizer;
use serde_json::{Value, json};
use std::{fs, io::Read};

/// A text with what careless tokenizers change: case, compatibility forms, spaces at the ends and in a row, special tokens.
const TEXT: &str = "  A <image> b\t\u{FB01}\u{301}  9999\n<|grounding|> x ";

/// The released file's settings around a vocabulary that is cut, as the parity checkpoint has it.
fn small() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/parity/checkpoint/tokenizer.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn read(json: &Value) -> Result<Tokenizer, deepseek_ocr::Error> {
    Tokenizer::from_bytes(json.to_string().as_bytes())
}

/// The error of the small file with another value at `pointer`.
fn refused(pointer: &str, value: Value) -> String {
    let mut file = small();
    *file.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    let error = read(&file).expect_err(pointer);
    assert!(matches!(error, deepseek_ocr::Error::Tokenizer { .. }), "{pointer}: {error}");
    error.to_string()
}

#[test]
fn truncation_and_padding_change_nothing() {
    let truncation = json!({ "direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0 });
    let padding = json!({ "strategy": { "Fixed": 64 }, "direction": "Left", "pad_to_multiple_of": 64,
        "pad_id": 2, "pad_type_id": 0, "pad_token": "<pad>" });
    let plain = read(&small()).unwrap();
    let expected = plain.encode(TEXT).unwrap();
    assert!(expected.len() > 8);
    for (truncation, padding) in [(&truncation, &Value::Null), (&Value::Null, &padding), (&truncation, &padding)] {
        let mut file = small();
        file["truncation"] = truncation.clone();
        file["padding"] = padding.clone();
        let (tokenizer, said) = super::logs::of(|| read(&file).unwrap());
        assert!(said.contains("truncation=") && said.contains("padding="), "{said}");
        assert_eq!(tokenizer.encode(TEXT).unwrap(), expected);
        assert!(tokenizer.encode("").unwrap().is_empty());
        let long = TEXT.repeat(300);
        assert_eq!(tokenizer.encode(&long).unwrap(), plain.encode(&long).unwrap());
    }
}

#[test]
fn the_released_file_cut_or_filled_gives_the_same_ids() {
    let mut text = String::new();
    let packed: &[u8] = include_bytes!("../../data/tokenizer.json.gz");
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    let cut = r#""truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}"#;
    assert!(text.contains(r#""truncation": null"#));
    let changed = text.replace(r#""truncation": null"#, cut);
    let (changed, released) = (Tokenizer::from_bytes(changed.as_bytes()).unwrap(), crate::tokenizer::released());
    let long = "One line of a page, and another. ".repeat(265);
    assert_eq!(changed.encode(&long).unwrap(), released.encode(&long).unwrap());
    // Nine for each line, and the space at the end.
    assert_eq!(released.encode(&long).unwrap().len(), 265 * 9 + 1);
}

#[test]
fn tokens_around_a_text_are_never_added() {
    let expected = read(&small()).unwrap().encode("a b").unwrap();
    for post_processor in [
        json!(null),
        json!({ "type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": true }),
    ] {
        let mut file = small();
        file["post_processor"] = post_processor;
        assert_eq!(read(&file).unwrap().encode("a b").unwrap(), expected);
    }
}

#[test]
fn a_text_that_is_changed_first_is_refused() {
    for (normalizer, name) in [
        (json!({ "type": "Lowercase" }), "normalizer is {\"type\":\"Lowercase\"}, expected none"),
        (json!({ "type": "NFKC" }), "normalizer is {\"type\":\"NFKC\"}"),
        (json!({ "type": "Strip", "strip_left": true, "strip_right": true }), "normalizer is {"),
        (
            json!({ "type": "Sequence", "normalizers": [{ "type": "Sequence", "normalizers": [{ "type": "NFC" }] }] }),
            "NFC",
        ),
        (json!({ "type": "Prepend", "prepend": "\u{2581}" }), "Prepend"),
        (json!({ "type": "Replace", "pattern": { "String": " " }, "content": "\u{2581}" }), "Replace"),
    ] {
        let error = refused("/normalizer", normalizer);
        assert!(error.contains("normalizer is") && error.contains(name), "{error}");
    }
}

#[test]
fn splits_that_take_or_add_characters_are_refused() {
    for pre_tokenizer in [
        json!({ "type": "WhitespaceSplit" }),
        json!({ "type": "BertPreTokenizer" }),
        json!({ "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true }),
        json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": false }),
        json!({ "type": "Split", "pattern": { "String": " " }, "behavior": "Removed", "invert": false }),
        json!({ "type": "Sequence", "pretokenizers": [{ "type": "Whitespace" },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false }] }),
    ] {
        let error = refused("/pre_tokenizer", pre_tokenizer);
        assert!(error.contains("pre_tokenizer is {"), "{error}");
    }
}

#[test]
fn another_decoder_is_refused() {
    for decoder in [
        json!(null),
        json!({ "type": "Fuse" }),
        json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
        json!({ "type": "Sequence", "decoders": [{ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 }] }),
    ] {
        let error = refused("/decoder", decoder);
        assert!(error.contains("decoder is ") && error.contains("expected ByteLevel"), "{error}");
    }
}

#[test]
fn settings_of_the_merges_are_refused() {
    for (field, value, expected) in [
        ("dropout", json!(0.1), "model.dropout is 0.1, expected null"),
        ("fuse_unk", json!(true), "model.fuse_unk is true, expected false"),
        ("byte_fallback", json!(true), "model.byte_fallback is true, expected false"),
        ("ignore_merges", json!(true), "model.ignore_merges is true, expected false"),
        ("end_of_word_suffix", json!("</w>"), "model.end_of_word_suffix is \"</w>\", expected null"),
    ] {
        let error = refused(&format!("/model/{field}"), value);
        assert_eq!(error, format!("the tokenizer cannot be used: {expected}"));
    }
    let mut file = small();
    file["model"]["dropout"] = json!(0.0);
    assert!(read(&file).is_ok());
    let words = json!({ "type": "WordLevel", "vocab": file["model"]["vocab"].take(), "unk_token": "!" });
    assert!(refused("/model", words).contains("model.type is WordLevel, expected BPE"));
}

#[test]
fn tokens_that_take_what_stands_beside_them_are_refused() {
    for flag in ["lstrip", "rstrip", "single_word"] {
        let error = refused(&format!("/added_tokens/20/{flag}"), json!(true));
        assert!(error.contains(&format!("added_tokens: {flag} of ")), "{error}");
    }
}

#[test]
fn tokens_that_would_get_another_id_are_refused() {
    let error = refused("/added_tokens/5/id", json!(2222));
    let token = small()["added_tokens"][5]["content"].as_str().unwrap().to_owned();
    assert!(error.contains(&format!("{token} has id 2222, by its place it would have 2002")), "{error}");
    let mut file = small();
    file["added_tokens"].as_array_mut().unwrap().swap(4, 5);
    assert!(read(&file).unwrap_err().to_string().contains("by its place"));
}

#[test]
fn two_tokens_with_one_id_are_refused() {
    let mut file = small();
    let id = file["model"]["vocab"]["A"].clone();
    file["model"]["vocab"]["B"] = id.clone();
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains(&format!("model.vocab: \"A\" and \"B\" both have the id {id}")), "{error}");
}

#[test]
fn each_token_of_a_prompt_must_be_there_and_be_found_in_a_text() {
    let place = |file: &Value, token: &str| {
        file["added_tokens"].as_array().unwrap().iter().position(|added| added["content"] == token).unwrap()
    };
    for token in ["<image>", "<|grounding|>", "<|ref|>", "<|/det|>"] {
        let mut file = small();
        let at = place(&file, token);
        file["added_tokens"][at]["content"] = json!("<other>");
        let error = read(&file).unwrap_err().to_string();
        assert_eq!(error, format!("the tokenizer cannot be used: it has no token {token}"));
    }
    let mut file = small();
    let end = file["added_tokens"][1]["content"].clone();
    file["added_tokens"].as_array_mut().unwrap().remove(1);
    let error = read(&file).unwrap_err().to_string();
    assert!(error.contains(&format!("{} is not among its added_tokens", end.as_str().unwrap())), "{error}");
}

#[test]
fn a_tokenizer_that_does_not_fit() {
    let spoil = |from: &str, to: &str| {
        let folder = folder();
        let path = folder.path().join("tokenizer.json");
        let json = fs::read_to_string(&path).unwrap();
        assert!(json.contains(from));
        fs::write(&path, json.replace(from, to)).unwrap();
        load(&folder).to_string()
    };
    assert_eq!(spoil("<image>", "<picture>"), "the tokenizer cannot be used: it has no token <image>");
    assert!(spoil("\"BPE\"", "\"XYZ\"").starts_with("the tokenizer cannot be used: tokenizer.json cannot be read"));
    let error = spoil("\"~\": 98", "\"~\": 4000");
    assert_eq!(error, "the tokenizer cannot be used: its largest id is 4000, the model has 128 tokens");
}
