//! The model's tokenizer: ids by text, text from ids, and special tokens found by what they say.

mod settings;

use crate::task::IMAGE;
use deepseek_ocr_core::{BoxError, Error, Result, json};
use std::{path::Path, sync::Arc};

const BOS: &str = "<｜begin▁of▁sentence｜>";
const EOS: &str = "<｜end▁of▁sentence｜>";

/// Further tokens that prompts are written with, and answers with regions.
const MARKS: [&str; 5] = ["<|grounding|>", "<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>"];

/// Tokens that are kept back at most while a character is incomplete: none has more bytes, and no token has fewer than one.
const HELD: usize = 8;

/// A byte-level BPE tokenizer with the special tokens that the model needs.
///
/// Cheap to clone. A model has its own ([`DeepseekOcr::tokenizer`](crate::DeepseekOcr::tokenizer)); opened alone it
/// counts the tokens of a text without a model.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    bos: u32,
    eos: u32,
    image: u32,
}

/// Turns ids into text as they come, never splitting a character.
#[derive(Debug, Clone)]
pub struct TextStream {
    tokenizer: Tokenizer,
    held: Vec<u32>,
}

impl Tokenizer {
    /// Opens a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Read`]; [`Error::Tokenizer`] if it is none, or lacks a token that the model needs.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_bytes(&std::fs::read(path).map_err(Error::read(path))?)
    }

    /// Reads a `tokenizer.json` from memory.
    ///
    /// Settings of batches (`truncation`, `padding`) and the tokens that a file adds around a text are not used. What would change
    /// a text on its way to ids and back, or ids from call to call, is refused by name: a normaliser, splits that take or add
    /// characters, a decoder of another kind, tokens that take the spaces beside them, `dropout`.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        let invalid =
            |reason| Error::Tokenizer { reason: format!("tokenizer.json cannot be read: {reason}"), source: None };
        let text = json::text(json).map_err(invalid)?;
        let unread = "tokenizer.json cannot be read";
        let mut inner = tokenizers::Tokenizer::from_bytes(text).map_err(failed(unread))?;
        let stated = serde_json::from_slice(text).map_err(|source| failed(unread)(source.into()))?;
        let (bos, eos, image) = (special(&inner, BOS)?, special(&inner, EOS)?, special(&inner, IMAGE)?);
        MARKS.into_iter().try_for_each(|mark| special(&inner, mark).map(drop))?;
        settings::settle(&mut inner, &stated)?;
        Ok(Self { inner: Arc::new(inner), bos, eos, image })
    }

    /// Ids of `text`, special tokens in it included, nothing added around it.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed("a text cannot be encoded"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`; special tokens are kept, since tables and boxes are written with them.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(failed("ids cannot be decoded"))
    }

    /// Decodes ids one by one.
    pub fn stream(&self) -> TextStream {
        TextStream { tokenizer: self.clone(), held: Vec::new() }
    }

    /// The id of the token with exactly this text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that begins every prompt.
    pub fn bos(&self) -> u32 {
        self.bos
    }

    /// The token that ends an answer.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The token that stands for a vision token where a prompt is written as ids.
    pub fn image(&self) -> u32 {
        self.image
    }

    /// Whether `text` would be read as containing a special token.
    pub(crate) fn has_special(&self, text: &str) -> bool {
        let added = self.inner.get_added_tokens_decoder();
        added.values().any(|token| token.special && text.contains(&token.content))
    }

    /// Checks that a model with `vocab` tokens has a row for every id.
    pub(crate) fn check_fits(&self, vocab: usize) -> Result<()> {
        let largest = self.inner.get_vocab(true).into_values().max().unwrap_or_default();
        if (largest as usize) < vocab {
            return Ok(());
        }
        let reason = format!("its largest id is {largest}, the model has {vocab} tokens");
        Err(Error::Tokenizer { reason, source: None })
    }
}

impl TextStream {
    /// The text that `id` completes; empty while a character is incomplete.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.held.push(id);
        let text = self.tokenizer.decode(&self.held)?;
        if !text.ends_with(char::REPLACEMENT_CHARACTER) {
            self.held.clear();
            return Ok(text);
        }
        if self.held.len() > 2 * HELD { self.settled(&text) } else { Ok(String::new()) }
    }

    /// What is left when no more ids come.
    ///
    /// # Errors
    /// [`Error::Tokenizer`].
    pub fn flush(&mut self) -> Result<String> {
        let text = self.tokenizer.decode(&self.held)?;
        self.held.clear();
        Ok(text)
    }

    /// Of bytes that are no text at all, what lies further back than a character can reach.
    fn settled(&mut self, text: &str) -> Result<String> {
        let latest = self.held.len() - HELD;
        for split in (latest - HELD / 2..=latest).rev() {
            let (head, tail) = self.held.split_at(split);
            let (head, tail) = (self.tokenizer.decode(head)?, self.tokenizer.decode(tail)?);
            if text.len() == head.len() + tail.len() && text.starts_with(&head) && text.ends_with(&tail) {
                self.held.drain(..split);
                return Ok(head);
            }
        }
        Ok(String::new())
    }
}

/// The id of a token that is found wherever a text has it.
fn special(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<u32> {
    let missing = |reason| Error::Tokenizer { reason, source: None };
    let id = tokenizer.token_to_id(text).ok_or_else(|| missing(format!("it has no token {text}")))?;
    if tokenizer.get_added_vocabulary().get_added_tokens_decoder().contains_key(&id) {
        return Ok(id);
    }
    Err(missing(format!("{text} is not among its added_tokens, so that it is not found in a text")))
}

fn failed(reason: &'static str) -> impl FnOnce(BoxError) -> Error {
    move |source| Error::Tokenizer { reason: reason.into(), source: Some(source) }
}
