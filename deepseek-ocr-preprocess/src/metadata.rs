//! Where the formats keep EXIF and XMP data: one walk for each container.

use crate::png::{self, Chunk};
use image::ImageFormat;
use std::{borrow::Cow, iter};

/// What stands before EXIF data in a JPEG; some writers of other formats put it there as well. The last byte varies.
const EXIF_PREFIX: &[u8] = b"Exif\0";

/// What stands before an XMP packet in a JPEG.
const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// The most bytes that a compressed text chunk may inflate to.
const MAX_TEXT: usize = 4 << 20;

/// The most text chunks that are read: each may have to be inflated, and an honest file has one or two.
const MAX_TEXT_CHUNKS: usize = 8;

/// Data about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Metadata<'a> {
    /// A TIFF structure.
    Exif(Cow<'a, [u8]>),
    /// An XMP packet, and what may follow it.
    Xmp(Cow<'a, [u8]>),
}

/// The metadata of a file, in the order in which it counts.
pub(crate) fn metadata(bytes: &[u8], format: ImageFormat) -> Box<dyn Iterator<Item = Metadata<'_>> + '_> {
    match format {
        ImageFormat::Jpeg => Box::new(jpeg_app1(bytes).filter_map(|segment| app1(segment.into()))),
        ImageFormat::Png => {
            let exif = png::chunks(bytes).filter(|chunk| chunk.kind == *b"eXIf" && chunk.is_intact());
            let exif = exif.filter_map(|chunk| self::exif(chunk.data.into()));
            let texts = png::chunks(bytes).filter_map(|chunk| Some((chunk, Keyword::of(chunk)?)));
            let texts = texts.filter(|(chunk, _)| chunk.is_intact()).take(MAX_TEXT_CHUNKS);
            Box::new(exif.chain(texts.filter_map(|(chunk, keyword)| text_metadata(chunk, keyword))))
        }
        ImageFormat::WebP => Box::new(webp_chunks(bytes).filter_map(|(kind, data)| match kind {
            b"EXIF" => exif(data.into()),
            b"XMP " => Some(Metadata::Xmp(data.into())),
            _ => None,
        })),
        ImageFormat::Gif => Box::new(gif_xmp(bytes).map(|packet| Metadata::Xmp(packet.into())).into_iter()),
        _ => Box::new(iter::empty()),
    }
}

fn exif(data: Cow<'_, [u8]>) -> Option<Metadata<'_>> {
    let start = if data.starts_with(EXIF_PREFIX) { EXIF_PREFIX.len() + 1 } else { 0 };
    from(data, start).map(Metadata::Exif)
}

/// What a JPEG's APP1 segment holds, if it is EXIF or XMP data.
fn app1(data: Cow<'_, [u8]>) -> Option<Metadata<'_>> {
    if data.starts_with(XMP_PREFIX) {
        return from(data, XMP_PREFIX.len()).map(Metadata::Xmp);
    }
    if data.starts_with(EXIF_PREFIX) { exif(data) } else { None }
}

/// The data from `start` on.
fn from(data: Cow<'_, [u8]>, start: usize) -> Option<Cow<'_, [u8]>> {
    Some(match data {
        Cow::Borrowed(data) => data.get(start..)?.into(),
        Cow::Owned(data) => data.get(start..)?.to_vec().into(),
    })
}

/// The APP1 segments before the pixels.
fn jpeg_app1(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    iter::from_fn(move || {
        loop {
            let start = rest.iter().position(|&byte| byte == 0xFF)?;
            let (&marker, after) = rest.get(start + 1..)?.split_first()?;
            match marker {
                // Padding before a marker.
                0xFF => rest = &rest[start + 1..],
                // Bytes that are no marker, and markers without a segment.
                0x00 | 0x01 | 0xD0..=0xD8 => rest = after,
                // Start of scan, end of image.
                0xD9 | 0xDA => return None,
                _ => {
                    let (length, after) = after.split_first_chunk()?;
                    let (segment, after) =
                        after.split_at_checked(usize::from(u16::from_be_bytes(*length)).checked_sub(2)?)?;
                    rest = after;
                    if marker == 0xE1 {
                        return Some(segment);
                    }
                }
            }
        }
    })
}

/// What a text chunk holds, by its keyword.
#[derive(Debug, Clone, Copy)]
enum Keyword {
    /// The packet itself.
    Xmp,
    /// Hexadecimal digits, as ImageMagick writes them.
    RawExif,
    RawXmp,
    RawApp1,
}

impl Keyword {
    fn of(chunk: Chunk<'_>) -> Option<Self> {
        if !matches!(&chunk.kind, b"tEXt" | b"zTXt" | b"iTXt") {
            return None;
        }
        let end = chunk.data.iter().position(|&byte| byte == 0)?;
        Some(match &chunk.data[..end] {
            b"XML:com.adobe.xmp" => Self::Xmp,
            b"Raw profile type exif" => Self::RawExif,
            b"Raw profile type xmp" => Self::RawXmp,
            b"Raw profile type APP1" => Self::RawApp1,
            _ => return None,
        })
    }
}

fn text_metadata<'a>(chunk: Chunk<'a>, keyword: Keyword) -> Option<Metadata<'a>> {
    let text = text(chunk)?;
    let raw = || from_hex_lines(&text).map(Cow::Owned);
    match keyword {
        Keyword::Xmp => Some(Metadata::Xmp(text)),
        Keyword::RawExif => exif(raw()?),
        Keyword::RawXmp => raw().map(Metadata::Xmp),
        Keyword::RawApp1 => app1(raw()?),
    }
}

/// The text of a `tEXt`, `zTXt` or `iTXt` chunk: PNG specification, section 11.3.3.
fn text(chunk: Chunk<'_>) -> Option<Cow<'_, [u8]>> {
    let after_zero = |data: &'_ [u8]| data.iter().position(|&byte| byte == 0).map(|zero| zero + 1);
    let rest = &chunk.data[after_zero(chunk.data)?..];
    let (compressed, text) = match &chunk.kind {
        b"tEXt" => (false, rest),
        // The byte before the text names the compression; 0 is the only one that exists.
        b"zTXt" => (true, rest.get(1..)?),
        _ => {
            // Whether it is compressed, how, a language, the keyword in that language.
            let (&[compressed, _method], rest) = rest.split_first_chunk()?;
            let rest = &rest[after_zero(rest)?..];
            (compressed != 0, &rest[after_zero(rest)?..])
        }
    };
    if !compressed {
        return Some(text.into());
    }
    let inflated = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(text, MAX_TEXT);
    // An XMP packet may be longer; what is sought stands near its start.
    Some(inflated.unwrap_or_else(|stopped| stopped.output).into())
}

/// The bytes of a raw profile: a name, a length, and hexadecimal digits in lines.
fn from_hex_lines(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let digits: Vec<u8> = text.split_ascii_whitespace().skip(2).flat_map(str::bytes).collect();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let (pairs, _) = digits.as_chunks();
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

/// `(name, data)` of the chunks of a WebP file; the flags in its header do not matter.
fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    /// Bytes before the first chunk, and of a chunk's name and length.
    const FILE_HEAD: usize = 12;
    const HEAD: usize = 8;
    let mut rest = bytes.get(FILE_HEAD..).unwrap_or_default();
    iter::from_fn(move || {
        let (kind, after) = rest.split_first_chunk()?;
        let length = u32::from_le_bytes(*after.first_chunk()?) as usize;
        let data = rest.get(HEAD..)?.get(..length)?;
        // Chunks are padded to an even length.
        rest = rest.get(HEAD + length + (length & 1)..).unwrap_or_default();
        Some((kind, data))
    })
}

/// The XMP packet of a GIF, which lies there in one piece, with what follows it.
fn gif_xmp(bytes: &[u8]) -> Option<&[u8]> {
    /// An application extension whose identifier has 11 bytes.
    const HEAD: &[u8] = b"\x21\xFF\x0BXMP DataXMP";
    let start = bytes.windows(HEAD.len()).position(|window| window == HEAD)?;
    Some(&bytes[start + HEAD.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(bytes: &[u8], format: ImageFormat) -> Vec<(bool, Vec<u8>)> {
        let plain = |metadata| match metadata {
            Metadata::Exif(data) => (true, data.into_owned()),
            Metadata::Xmp(data) => (false, data.into_owned()),
        };
        metadata(bytes, format).map(plain).collect()
    }

    fn hex_lines(data: &[u8]) -> Vec<u8> {
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("\nexif\n      {}\n{}\n{}\n", data.len(), &hex[..4], &hex[4..]).into_bytes()
    }

    fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
        let chunks = chunks.iter().flat_map(|(kind, data)| png::tests::chunk(kind, data));
        b"\x89PNG\r\n\x1a\n".iter().copied().chain(chunks).collect()
    }

    #[test]
    fn jpegs_may_have_several_segments_in_any_order() {
        let bytes =
            b"\xFF\xD8\xFF\xE0\0\x04ab\xFF\xFF\xE1\0\x06junkjunk\xFF\xE1\0\x22http://ns.adobe.com/xap/1.0/\0<x>\
                      \xFF\xDB\0\x03t\xFF\xE1\0\x0AExif\0\0II\xFF\xDA\0\x02\xFF\xE1\0\x0AExif\0\0no";
        assert_eq!(found(bytes, ImageFormat::Jpeg), [(false, b"<x>".to_vec()), (true, b"II".to_vec())]);
    }

    #[test]
    fn png_text_is_read_in_all_its_forms_and_exif_chunks_come_first() {
        let zlib = |data: &[u8]| miniz_oxide::deflate::compress_to_vec_zlib(data, 6);
        let raw = hex_lines(b"Exif\0\0II");
        let packed = [b"Raw profile type APP1\0\0".as_slice(), &zlib(&raw)].concat();
        let packet = [b"XML:com.adobe.xmp\0\x01\0en\0name\0".as_slice(), &zlib(b"<z>")].concat();
        let bytes = png(&[
            (b"tEXt", &[b"Raw profile type exif\0".as_slice(), &raw].concat()),
            (b"zTXt", &packed),
            (b"iTXt", &[b"Raw profile type xmp\0\0\0\0\0".as_slice(), &hex_lines(b"<x>")].concat()),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<y>"),
            (b"iTXt", &packet),
            (b"tEXt", b"Comment\0<no>"),
            (b"eXIf", b"MM"),
        ]);
        let [ii, mm] = [(true, b"II".to_vec()), (true, b"MM".to_vec())];
        let xmp = [b"<x>", b"<y>", b"<z>"].map(|packet| (false, packet.to_vec()));
        assert_eq!(found(&bytes, ImageFormat::Png), [&[mm, ii.clone(), ii], xmp.as_slice()].concat());
    }

    #[test]
    fn an_inflation_bomb_stays_small_and_many_of_them_few() {
        let bomb = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'0'; MAX_TEXT * 4], 6);
        let data = [b"XML:com.adobe.xmp\0\x01\0\0\0".as_slice(), &bomb].concat();
        let found = found(&png(&vec![(b"iTXt", data.as_slice()); 100]), ImageFormat::Png);
        assert_eq!(found.len(), MAX_TEXT_CHUNKS);
        assert!(found.iter().all(|(_, text)| text.len() <= MAX_TEXT));
    }

    #[test]
    fn spoiled_chunks_do_not_count() {
        let mut bytes = png(&[(b"eXIf", b"MM")]);
        *bytes.last_mut().expect("a checksum") ^= 1;
        assert_eq!(found(&bytes, ImageFormat::Png), []);
    }

    #[test]
    fn webp_and_gif_have_blocks_of_their_own() {
        let webp = b"RIFF####WEBPVP8L\x01\0\0\0a\0XMP \x03\0\0\0<x>\0EXIF\x08\0\0\0Exif\0\0IIEXIF\x02\0\0\0MM";
        let expected = [(false, b"<x>".to_vec()), (true, b"II".to_vec()), (true, b"MM".to_vec())];
        assert_eq!(found(webp, ImageFormat::WebP), expected);
        let gif = b"GIF89a......\x21\xFF\x0BXMP DataXMP<x>";
        assert_eq!(found(gif, ImageFormat::Gif), [(false, b"<x>".to_vec())]);
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Tiff] {
                let _ = found(&bytes, format);
            }
            let _ = from_hex_lines(&bytes);
            let text = [b"XML:com.adobe.xmp\0".as_slice(), &bytes].concat();
            let _ = (found(&png(&[(b"iTXt", &text)]), ImageFormat::Png), found(&png(&[(b"zTXt", &text)]), ImageFormat::Png));
        }
    }
}
