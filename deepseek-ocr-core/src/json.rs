//! JSON files of a model folder, read in one place: whatever stands in such a file's stead is named.
//!
//! A byte order mark is skipped. A key that an object has twice is an error: readers differ in which one they take.

use crate::{Error, Result, foreign};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, error::Category};
use std::{collections::HashSet, fmt, path::Path};

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a JSON file.
///
/// # Errors
/// [`Error::Read`]; [`Error::Json`], which says what the file is if it is none.
pub fn read(path: impl AsRef<Path>) -> Result<Value> {
    let path = path.as_ref();
    parse(path, &std::fs::read(path).map_err(Error::read(path))?)
}

/// Parses what a JSON file holds; `path` is its name in messages.
///
/// ```
/// use deepseek_ocr_core::json;
///
/// assert_eq!(json::parse("a.json", b"\xEF\xBB\xBF[1]").unwrap()[0], 1);
/// let error = json::parse("a.json", b"[\0").unwrap_err().to_string();
/// assert_eq!(error, "a.json is not valid JSON: it is in UTF-16, save it as UTF-8");
/// ```
///
/// # Errors
/// [`Error::Json`].
pub fn parse(path: impl AsRef<Path>, bytes: &[u8]) -> Result<Value> {
    let value = text(bytes).and_then(|text| serde_json::from_slice(text).map_err(|error| error.to_string()));
    value.map_err(|reason| Error::Json { path: path.as_ref().to_owned(), reason })
}

/// The JSON text in the bytes of a file, for parsers that take no byte order mark: its syntax and its keys are checked.
///
/// # Errors
/// Why it is none, for [`Error::Json`] and the like.
pub fn text(bytes: &[u8]) -> Result<&[u8], String> {
    if let Some(encoding) = other_encoding(bytes) {
        return Err(format!("it is in {encoding}, save it as UTF-8"));
    }
    let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if let Some(what) = foreign::name(text) {
        return Err(what.into());
    }
    if let Err(error) = std::str::from_utf8(text) {
        return Err(match error.error_len() {
            None => "it is cut off within a character".into(),
            Some(_) => format!("it is not in UTF-8 from byte {} on", error.valid_up_to()),
        });
    }
    match serde_json::from_slice::<UniqueKeys>(text) {
        Ok(_) => Ok(text),
        Err(error) if error.classify() == Category::Eof => Err(format!("it is cut off: {error}")),
        Err(error) => Err(error.to_string()),
    }
}

/// The encoding of a text that begins with an ASCII character, as JSON does, or with a byte order mark, if it is not UTF-8.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] | [0, 0, 0, 1..=0xFF, ..] | [1..=0xFF, 0, 0, 0, ..] => {
            Some("UTF-32")
        }
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 1..=0xFF, ..] | [1..=0xFF, 0, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// Any value in which no object has a key twice; nothing of it is kept.
struct UniqueKeys;

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            fields.next_value::<Self>()?;
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format!("it has the key {key:?} twice")));
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(bytes: &[u8]) -> String {
        match parse("x.json", bytes) {
            Err(Error::Json { path, reason }) if path == Path::new("x.json") => reason,
            other => panic!("{other:?}"),
        }
    }

    fn wide(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(parse("x.json", "\u{FEFF}{\"ä\": 1.5}".as_bytes()).expect("JSON")["ä"], 1.5);
    }

    #[test]
    fn utf16_of_either_order_is_named() {
        for (mark, bytes) in [
            ("", u16::to_le_bytes as fn(u16) -> _),
            ("\u{FEFF}", u16::to_le_bytes),
            ("", u16::to_be_bytes),
            ("\u{FEFF}", u16::to_be_bytes),
        ] {
            assert_eq!(reason(&wide(&format!("{mark}{{}}"), bytes)), "it is in UTF-16, save it as UTF-8");
        }
        let utf32: Vec<u8> = "{}".chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
        assert!(reason(&utf32).contains("UTF-32"));
    }

    #[test]
    fn what_stands_in_its_stead_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9979544\n";
        assert!(reason(pointer).contains("Git LFS pointer") && reason(pointer).contains("git lfs pull"));
        assert!(reason(b"\n <!DOCTYPE html><title>Sign in</title>").contains("a web page"));
        assert_eq!(reason(b""), "it is empty");
        assert_eq!(reason(BYTE_ORDER_MARK), "it is empty");
        assert!(reason(&[0; 9000]).contains("zeros"));
        assert!(reason(b"{\"a\": [1, ").starts_with("it is cut off: "));
        assert!(reason(b"{\"\xC3").starts_with("it is cut off "));
        assert_eq!(reason(b"{\"r\xE9\": 1}"), "it is not in UTF-8 from byte 3 on");
        assert!(reason(b"{'a': 1}").contains("line 1 column 2"));
    }

    #[test]
    fn a_key_twice_is_refused_at_any_depth() {
        assert!(reason(br#"{"a": 1, "b": 2, "a": 1}"#).starts_with("it has the key \"a\" twice"));
        assert!(reason(br#"[{"b": {"c": null, "c": {}}}]"#).starts_with("it has the key \"c\" twice"));
        assert!(parse("x.json", br#"{"a": {"a": [{"a": 1}, {"a": 1}]}}"#).is_ok());
    }

    #[test]
    fn nesting_without_end_is_an_error() {
        assert!(reason(&[b'['; 100_000]).contains("recursion limit"));
    }
}
