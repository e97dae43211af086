//! Which way up a page is, from EXIF wherever the formats keep it.

use crate::png::{self, Chunk};
use image::{ImageDecoder, ImageFormat, metadata::Orientation};

/// What JPEG puts before EXIF data; some writers of other formats put it there as well.
const EXIF_PREFIX: &[u8] = b"Exif\0\0";

/// The most bytes that a compressed text chunk may inflate to: a whole JPEG segment in hexadecimal, with room.
const MAX_TEXT: usize = 256 << 10;

/// How the decoded pixels must be turned to stand upright; broken EXIF data is ignored.
pub(crate) fn orientation(decoder: &mut impl ImageDecoder, bytes: &[u8], format: ImageFormat) -> Orientation {
    let upright = Orientation::NoTransforms;
    match decoder.orientation() {
        Ok(orientation) if orientation != upright => return orientation,
        _ => {}
    }
    if let Ok(Some(exif)) = decoder.exif_metadata() {
        return from_exif(&exif).unwrap_or(upright);
    }
    match format {
        ImageFormat::Png => png::chunks(bytes).find_map(|chunk| from_exif(&raw_profile(chunk)?)).unwrap_or(upright),
        _ => upright,
    }
}

fn from_exif(exif: &[u8]) -> Option<Orientation> {
    Orientation::from_exif_chunk(exif.strip_prefix(EXIF_PREFIX).unwrap_or(exif))
}

/// The EXIF data of a text chunk as ImageMagick writes it: a name, a length, and hexadecimal digits in lines.
fn raw_profile(chunk: Chunk<'_>) -> Option<Vec<u8>> {
    const KEYWORDS: [&[u8]; 2] = [b"Raw profile type exif", b"Raw profile type APP1"];
    let end = chunk.data.iter().position(|&byte| byte == 0)?;
    let (keyword, text) = (&chunk.data[..end], &chunk.data[end + 1..]);
    if !KEYWORDS.contains(&keyword) {
        return None;
    }
    match &chunk.kind {
        b"tEXt" => from_hex_lines(text),
        // The first byte names the compression; 0 is the only one that exists.
        b"zTXt" => {
            let text = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(text.get(1..)?, MAX_TEXT).ok()?;
            from_hex_lines(&text)
        }
        _ => None,
    }
}

fn from_hex_lines(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let digits: Vec<u8> = text.split_ascii_whitespace().skip(2).flat_map(str::bytes).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, _) = digits.as_chunks();
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Big-endian TIFF header, one entry: tag 0x0112, SHORT, 1 value, 6.
    const EXIF_6: &[u8] = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";

    fn profile_text() -> Vec<u8> {
        let hex: String = [EXIF_PREFIX, EXIF_6].concat().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\nexif\n      {}\n{}\n{}\n", hex.len() / 2, &hex[..20], &hex[20..]).into_bytes()
    }

    #[test]
    fn exif_is_read_with_and_without_prefix() {
        assert_eq!(from_exif(EXIF_6), Some(Orientation::Rotate90));
        assert_eq!(from_exif(&[EXIF_PREFIX, EXIF_6].concat()), Some(Orientation::Rotate90));
        assert_eq!(from_exif(b"Exif\0\0"), None);
    }

    #[test]
    fn raw_profiles_are_read_plain_and_compressed() {
        let plain = [b"Raw profile type exif\0".as_slice(), &profile_text()].concat();
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(&profile_text(), 6);
        let packed = [b"Raw profile type APP1\0\0".as_slice(), &packed].concat();
        for (kind, data) in [(*b"tEXt", &plain), (*b"zTXt", &packed)] {
            let exif = raw_profile(Chunk { kind, data }).expect("a raw profile");
            assert_eq!(from_exif(&exif), Some(Orientation::Rotate90));
        }
    }

    #[test]
    fn an_inflation_bomb_is_refused() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'0'; MAX_TEXT * 16], 6);
        let data = [b"Raw profile type exif\0\0".as_slice(), &bomb].concat();
        assert_eq!(raw_profile(Chunk { kind: *b"zTXt", data: &data }), None);
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = from_hex_lines(&text);
        }
    }
}
