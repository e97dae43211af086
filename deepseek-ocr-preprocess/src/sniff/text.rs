//! What a text file is: a page, a drawing, an address, an encoded image.

use super::position;

/// Bytes that decide.
const WINDOW: usize = 4096;

/// Base64 of the first bytes of files, from which three bytes make four letters.
const BASE64: [(&str, &str); 8] = [
    ("iVBORw0KGgo", "a PNG image"),
    ("/9j/", "a JPEG image"),
    ("R0lGOD", "a GIF image"),
    ("UklGR", "a WebP image"),
    ("SUkqA", "a TIFF image"),
    ("TU0AK", "a TIFF image"),
    ("Qk", "a BMP image"),
    ("JVBERi0", "a PDF document"),
];

/// What text the data is, with what to do about it; nothing if it is no text.
pub(super) fn found(bytes: &[u8]) -> Option<String> {
    let text = decoded(bytes.get(..WINDOW).unwrap_or(bytes))?;
    let text = text.trim_start_matches(|letter: char| letter.is_whitespace() || letter == '\u{feff}');
    let lower = text.to_ascii_lowercase();
    let has = |part: &str| position(lower.as_bytes(), part.as_bytes()).is_some();
    let starts = |parts: &[&str]| parts.iter().any(|part| lower.starts_with(part));
    Some(match () {
        () if starts(&["data:"]) => match lower.split_once(',') {
            Some((head, _)) if !head.ends_with("base64") => "a data URL (decode what follows its comma)".into(),
            _ => "a data URL (decode the base64 text that follows its comma)".into(),
        },
        () if starts(&["version https://git-lfs", "version https://hawser"]) => {
            "a Git LFS pointer (fetch the file itself with `git lfs pull`)".into()
        }
        () if starts(&["http://", "https://", "file://", "s3://", "gs://"]) && text.trim().lines().count() == 1 => {
            "an address (download what it names)".into()
        }
        () if starts(&["<"]) => markup(has),
        () if starts(&["%!ps"]) => "a PostScript document (render its pages to PNG)".into(),
        () if starts(&["{", "["]) => "a JSON document (take the image out of it, or read its message)".into(),
        () if starts(&["#define"]) && has("_width") => "an XBM image (convert it to PNG or JPEG)".into(),
        () => base64(text).unwrap_or_else(|| "plain text (no image was saved under this name)".into()),
    })
}

/// What begins with an angle bracket.
fn markup(has: impl Fn(&str) -> bool) -> String {
    match () {
        () if has("<html") || has("<!doctype html") || has("<head") || has("<body") => {
            "an HTML page (was an error or login page saved instead of the image?)"
        }
        () if has("<svg") => "an SVG drawing (render it to PNG)",
        () if has("<error") || has("<message") => "an XML document (is it an error message of the server?)",
        () => "an XML document (it holds no pixels)",
    }
    .into()
}

/// Text that is nothing but base64.
fn base64(text: &str) -> Option<String> {
    const SHORTEST: usize = 24;
    let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '/' | '=' | '-' | '_');
    let text = text.trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\''));
    // Lines are broken, words are not.
    if text.len() < SHORTEST || !text.chars().all(|letter| letters(letter) || matches!(letter, '\r' | '\n')) {
        return None;
    }
    let known = BASE64.iter().find(|(start, _)| text.starts_with(start));
    Some(match known {
        Some((_, what)) => format!("base64 text of {what} (decode it first)"),
        None if text.bytes().any(|byte| byte.is_ascii_digit()) => "perhaps base64 text (decode it first)".into(),
        None => return None,
    })
}

/// The text, if the data is text in UTF-8, UTF-16 with its mark, or an 8-bit code.
fn decoded(bytes: &[u8]) -> Option<String> {
    let wide = |read: fn([u8; 2]) -> u16, rest: &[u8]| {
        let (units, _) = rest.as_chunks();
        String::from_utf16_lossy(&units.iter().map(|&unit| read(unit)).collect::<Vec<_>>())
    };
    let text = match bytes {
        [0xFF, 0xFE, rest @ ..] => wide(u16::from_le_bytes, rest),
        [0xFE, 0xFF, rest @ ..] => wide(u16::from_be_bytes, rest),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    let strange = |letter: char| letter.is_control() && !letter.is_whitespace() && letter != '\u{1b}';
    let foreign = text.chars().filter(|&letter| letter == char::REPLACEMENT_CHARACTER).count();
    // Text in an 8-bit code has some bytes that are not UTF-8; the window may end within a letter.
    let is_text = !text.trim().is_empty() && !text.chars().any(strange) && foreign * 8 <= text.chars().count();
    is_text.then_some(text)
}
