//! Settings of a tokenizer file that would change ids or text. Those for batches are taken out; the others are refused by name.

use deepseek_ocr_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizers::{ModelWrapper, PostProcessorWrapper, models::bpe::BPE};

/// The tokens of a file that are not made by merges.
#[derive(Deserialize)]
pub(super) struct Stated {
    #[serde(default)]
    added_tokens: Vec<StatedToken>,
}

#[derive(Deserialize)]
struct StatedToken {
    id: u32,
    content: String,
}

/// Makes `tokenizer` encode and decode a text as it is, or says which setting forbids that.
pub(super) fn settle(tokenizer: &mut tokenizers::Tokenizer, stated: &Stated) -> Result<()> {
    let (truncation, padding) = (tokenizer.get_truncation().is_some(), tokenizer.get_padding().is_some());
    if truncation || padding {
        tracing::warn!(truncation, padding, "settings of the tokenizer file that cut or fill texts are not used");
        tokenizer.with_truncation(None).map_err(|source| refused_with("truncation cannot be taken out", source))?;
        tokenizer.with_padding(None);
    }
    // It adds tokens around a text, which prompts have already.
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    check_added(tokenizer, stated)?;
    check_ids(tokenizer)?;
    check_parts(tokenizer)?;
    match tokenizer.get_model() {
        ModelWrapper::BPE(model) => check_model(model),
        ModelWrapper::WordPiece(_) => Err(refused("model.type is WordPiece, expected BPE")),
        ModelWrapper::WordLevel(_) => Err(refused("model.type is WordLevel, expected BPE")),
        ModelWrapper::Unigram(_) => Err(refused("model.type is Unigram, expected BPE")),
    }
}

/// The library numbers added tokens anew, and takes characters beside them where a flag says so.
fn check_added(tokenizer: &tokenizers::Tokenizer, stated: &Stated) -> Result<()> {
    for StatedToken { id, content } in stated.added_tokens.iter().filter(|token| !token.content.is_empty()) {
        match tokenizer.token_to_id(content) {
            Some(found) if found == *id => {}
            found => {
                let found = found.map_or("none".to_owned(), |id| id.to_string());
                return Err(refused(format!(
                    "added_tokens: {content} has id {id}, by its place it would have {found}"
                )));
            }
        }
    }
    for token in tokenizer.get_added_tokens_decoder().values() {
        for (flag, set) in [("lstrip", token.lstrip), ("rstrip", token.rstrip), ("single_word", token.single_word)] {
            if set {
                return Err(refused(format!("added_tokens: {flag} of {} is true, expected false", token.content)));
            }
        }
    }
    Ok(())
}

/// Of two tokens with one id, either could be decoded.
fn check_ids(tokenizer: &tokenizers::Tokenizer) -> Result<()> {
    let mut tokens: Vec<_> = tokenizer.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
    tokens.sort_unstable();
    match tokens.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some([(id, a), (_, b)]) => Err(refused(format!("model.vocab: {a:?} and {b:?} both have the id {id}"))),
        _ => Ok(()),
    }
}

/// Nothing may change a text before it is split, splitting may take or add nothing, and decoding must undo the encoding.
fn check_parts(tokenizer: &tokenizers::Tokenizer) -> Result<()> {
    if let Some(part) = parts(&tokenizer.get_normalizer())?.first() {
        return Err(refused(format!("normalizer is {part}, expected none")));
    }
    let splits = parts(&tokenizer.get_pre_tokenizer())?;
    if let Some(part) = splits.iter().find(|part| !keeps_all(part)) {
        return Err(refused(format!("pre_tokenizer is {part}, which does not keep a text as it is")));
    }
    let bytes = splits.iter().any(|part| part["type"] == "ByteLevel");
    let expected = if bytes { "ByteLevel" } else { "Fuse" };
    let decoders = parts(&tokenizer.get_decoder())?;
    match &decoders[..] {
        [only] if only["type"] == expected => Ok(()),
        other => Err(refused(format!("decoder is {}, expected {expected}", Value::from(other.to_vec())))),
    }
}

fn keeps_all(split: &Value) -> bool {
    match split["type"].as_str() {
        Some("Split" | "Punctuation") => split["behavior"] != "Removed",
        Some("ByteLevel") => split["add_prefix_space"] == false,
        Some("Digits" | "UnicodeScripts" | "FixedLength") => true,
        _ => false,
    }
}

fn check_model(model: &BPE) -> Result<()> {
    if let Some(dropout) = model.dropout.filter(|dropout| *dropout != 0.0) {
        return Err(refused(format!("model.dropout is {dropout}, expected null")));
    }
    for (field, affix) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if let Some(affix) = affix.as_ref().filter(|affix| !affix.is_empty()) {
            return Err(refused(format!("model.{field} is {affix:?}, expected null")));
        }
    }
    let flags =
        [("fuse_unk", model.fuse_unk), ("byte_fallback", model.byte_fallback), ("ignore_merges", model.ignore_merges)];
    match flags.into_iter().find(|(_, set)| *set) {
        Some((flag, _)) => Err(refused(format!("model.{flag} is true, expected false"))),
        None => Ok(()),
    }
}

/// The parts of a sequence of sequences, in the form of the file.
fn parts(part: &impl Serialize) -> Result<Vec<Value>> {
    let value = serde_json::to_value(part).map_err(|source| refused_with("a part cannot be written", source.into()))?;
    let mut flat = Vec::new();
    flatten(value, &mut flat);
    Ok(flat)
}

fn flatten(part: Value, into: &mut Vec<Value>) {
    if part.is_null() {
        return;
    }
    let inner = ["normalizers", "pretokenizers", "decoders"].into_iter().find_map(|key| part[key].as_array());
    match inner {
        Some(inner) if part["type"] == "Sequence" => inner.iter().for_each(|part| flatten(part.clone(), into)),
        _ => into.push(part),
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Tokenizer { reason: reason.into(), source: None }
}

fn refused_with(reason: &str, source: deepseek_ocr_core::BoxError) -> Error {
    Error::Tokenizer { reason: reason.into(), source: Some(source) }
}
