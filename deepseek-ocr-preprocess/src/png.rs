//! PNG files, through the decoder below `image`: it can verify the checksum of the pixels, and needs an end chunk.

use crate::{
    ending::{Cut, Ending},
    options::PageOptions,
};
use deepseek_ocr_core::{Error, Result};
use image::{DynamicImage, ImageBuffer};
use png::{BitDepth, ColorType, DecodeOptions, Decoder, DecodingError, Limits, Transformations};
use std::{
    borrow::Cow,
    io::{Cursor, ErrorKind},
};

/// The format's name in messages.
const NAME: &str = "PNG";

/// Bytes of the signature before the first chunk.
const SIGNATURE: usize = 8;

/// The chunk that ends a file, with its checksum.
const END: &[u8] = b"\0\0\0\0IEND\xAE\x42\x60\x82";

/// One chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) kind: [u8; 4],
    pub(crate) data: &'a [u8],
    checksum: u32,
}

impl Chunk<'_> {
    /// Whether its checksum is right.
    pub(crate) fn is_intact(&self) -> bool {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.kind);
        hasher.update(self.data);
        hasher.finalize() == self.checksum
    }

    /// Whether a decoder may do without it, and skips it if its checksum is wrong.
    fn is_ancillary(&self) -> bool {
        self.kind[0].is_ascii_lowercase()
    }

    /// Bytes in the file.
    fn size(&self) -> usize {
        self.data.len() + 12
    }
}

/// The whole chunks of a PNG file, up to its end chunk; ends silently where the data ends, or what follows is no chunk.
pub(crate) fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let (&kind, after) = after.split_first_chunk::<4>()?;
        let (data, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        let (checksum, after) = after.split_first_chunk()?;
        rest = if kind == *b"IEND" { &[] } else { after };
        let chunk = Chunk { kind, data, checksum: u32::from_be_bytes(*checksum) };
        kind.iter().all(u8::is_ascii_alphabetic).then_some(chunk)
    })
}

/// How the file ends.
pub(crate) fn ending(bytes: &[u8]) -> Ending {
    if let Some(chunk) = chunks(bytes).find(|chunk| chunk.is_ancillary() && !chunk.is_intact()) {
        return Ending::Damaged(Cut::Checksum(chunk.kind));
    }
    let end = SIGNATURE + chunks(bytes).map(|chunk| chunk.size()).sum::<usize>();
    match chunks(bytes).last().map(|chunk| chunk.kind) {
        Some([b'I', b'E', b'N', b'D']) => Ending::Complete,
        None => Ending::Cut(Cut::Header),
        // The next chunk would be pixels as well.
        _ if bytes.get(end + 4..end + 8) == Some(b"IDAT") => Ending::Cut(Cut::Pixels),
        _ if chunks(bytes).any(|chunk| chunk.kind == *b"IDAT") => Ending::MarkMissing,
        Some(_) => Ending::Cut(Cut::Header),
    }
}

/// The pixels of the default image, with palette and transparency expanded.
pub(crate) fn decode(bytes: &[u8], options: &PageOptions) -> Result<DynamicImage> {
    let closed = closed(bytes);
    decode_closed(&closed, options).map_err(|error| match error {
        // The decoder takes the end that we wrote for the file's own.
        Error::ImageDecode { .. } if matches!(closed, Cow::Owned(_)) => {
            Error::ImageTruncated { format: NAME, reason: Cut::Pixels.to_string() }
        }
        error => error,
    })
}

/// The file with an end chunk.
fn closed(bytes: &[u8]) -> Cow<'_, [u8]> {
    if chunks(bytes).last().is_some_and(|chunk| chunk.kind == *b"IEND") {
        return bytes.into();
    }
    let end = SIGNATURE + chunks(bytes).map(|chunk| chunk.size()).sum::<usize>();
    let whole = bytes.get(..end).unwrap_or(bytes);
    [whole, END].concat().into()
}

fn decode_closed(bytes: &[u8], options: &PageOptions) -> Result<DynamicImage> {
    let foreign = |error| from_decoding_error(error, options);
    let mut decode = DecodeOptions::default();
    // Pixels that contradict their own checksum are not what was written.
    decode.set_ignore_adler32(false);
    // Text and colour profiles are not used here, and may inflate to anything.
    decode.set_ignore_text_chunk(true);
    decode.set_ignore_iccp_chunk(true);
    let mut decoder = Decoder::new_with_options(Cursor::new(bytes), decode);
    decoder.set_limits(Limits { bytes: usize::try_from(options.max_alloc).unwrap_or(usize::MAX) });
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(foreign)?;
    let (width, height) = reader.info().size();
    let size = reader.output_buffer_size().ok_or(DecodingError::LimitsExceeded).map_err(foreign)?;
    options.check(width, height, size as u64)?;
    let mut samples = vec![0; size];
    reader.next_frame(&mut samples).map_err(foreign)?;
    let deep = |samples: &[u8]| -> Vec<u16> {
        samples.as_chunks().0.iter().map(|&sample| u16::from_be_bytes(sample)).collect()
    };
    let image = match reader.output_color_type() {
        (ColorType::Grayscale, BitDepth::Sixteen) => from_raw(width, height, deep(&samples), DynamicImage::ImageLuma16),
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => {
            from_raw(width, height, deep(&samples), DynamicImage::ImageLumaA16)
        }
        (ColorType::Rgb, BitDepth::Sixteen) => from_raw(width, height, deep(&samples), DynamicImage::ImageRgb16),
        (ColorType::Rgba, BitDepth::Sixteen) => from_raw(width, height, deep(&samples), DynamicImage::ImageRgba16),
        (ColorType::Grayscale, _) => from_raw(width, height, samples, DynamicImage::ImageLuma8),
        (ColorType::GrayscaleAlpha, _) => from_raw(width, height, samples, DynamicImage::ImageLumaA8),
        (ColorType::Rgba, _) => from_raw(width, height, samples, DynamicImage::ImageRgba8),
        // A palette was expanded.
        (ColorType::Rgb | ColorType::Indexed, _) => from_raw(width, height, samples, DynamicImage::ImageRgb8),
    };
    image.ok_or_else(|| Error::ImageTruncated { format: NAME, reason: Cut::Pixels.to_string() })
}

fn from_raw<P: image::Pixel>(
    width: u32,
    height: u32,
    samples: Vec<P::Subpixel>,
    image: impl Fn(ImageBuffer<P, Vec<P::Subpixel>>) -> DynamicImage,
) -> Option<DynamicImage> {
    ImageBuffer::from_raw(width, height, samples).map(image)
}

fn from_decoding_error(error: DecodingError, options: &PageOptions) -> Error {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Error::ImageTruncated { format: NAME, reason: Cut::Pixels.to_string() }
        }
        DecodingError::LimitsExceeded => Error::ImageTooLarge {
            found: "what the decoder needs".into(),
            limit: format!("{} bytes", options.max_alloc),
        },
        error => Error::ImageDecode { format: NAME, source: Box::new(error) },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Damage, Page, PageWarning};
    use image::{ImageFormat, Rgb, RgbImage};

    /// A whole chunk.
    pub(crate) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let checksum = crc32fast::hash(&[kind, data].concat());
        [&(data.len() as u32).to_be_bytes(), kind.as_slice(), data, &checksum.to_be_bytes()].concat()
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(61, 47, |x, y| Rgb([((x * 31) ^ (y * 17)) as u8, (x * y) as u8, (x * x + y) as u8]))
    }

    fn encoded() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture().write_to(&mut bytes, ImageFormat::Png).expect("encoding to memory");
        bytes.into_inner()
    }

    /// A file with one chunk of pixels, which are `samples` with a filter byte before each row.
    fn file(width: u32, height: u32, bits: u8, color: u8, interlaced: u8, before: &[u8], zlib: &[u8]) -> Vec<u8> {
        let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[bits, color, 0, 0, interlaced]].concat();
        let parts = [chunk(b"IHDR", &header), before.to_vec(), chunk(b"IDAT", zlib), chunk(b"IEND", b"")];
        [b"\x89PNG\r\n\x1a\n".as_slice(), &parts.concat()].concat()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        miniz_oxide::deflate::compress_to_vec_zlib(data, 6)
    }

    #[test]
    fn chunks_end_with_the_data() {
        let bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x02tEXtab####\0\0\0\0IEND####\0\0\0\x01IDATa####";
        let found: Vec<_> = chunks(bytes).map(|chunk| (chunk.kind, chunk.data.to_vec())).collect();
        assert_eq!(found, [(*b"tEXt", b"ab".to_vec()), (*b"IEND", Vec::new())]);
        assert_eq!(chunks(b"\x89PNG\r\n\x1a\n\0\0\0\x09IDATcut").count(), 0);
        assert_eq!(chunks(b"short").count(), 0);
    }

    #[test]
    fn a_missing_end_chunk_is_a_warning() {
        let bytes = encoded();
        let whole = &bytes[..bytes.len() - END.len()];
        let half_a_chunk = &chunk(b"tEXt", b"Comment\0cut")[..15];
        for tail in [b"".as_slice(), &END[..4], &END[..11], &[0; 16], half_a_chunk, b"<html>"] {
            let bytes = [whole, tail].concat();
            let page = Page::from_bytes(&bytes).expect("all rows are there");
            assert_eq!(page.warnings(), [PageWarning::EndMissing { format: "PNG" }], "{}", tail.escape_ascii());
            assert_eq!(page.rgb(), &picture());
            let refused = Page::reader().with_damage(Damage::Refuse).from_bytes(&bytes);
            assert!(matches!(refused, Err(Error::ImageTruncated { format: "PNG", .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_file_cut_within_its_pixels_is_truncated() {
        let bytes = encoded();
        for keep in 8..bytes.len() - END.len() {
            let found = Page::from_bytes(&bytes[..keep]);
            assert!(matches!(found, Err(Error::ImageTruncated { .. })), "{keep}: {found:?}");
        }
        // Cut between two chunks of pixels.
        let samples = zlib(&[0; 70]);
        let (first, second) = samples.split_at(samples.len() / 2);
        let whole = file(6, 10, 8, 0, 0, &chunk(b"IDAT", first), second);
        assert!(Page::from_bytes(&whole).is_ok());
        let found = Page::from_bytes(&whole[..8 + 25 + 12 + first.len()]);
        assert!(matches!(found, Err(Error::ImageTruncated { .. })), "{found:?}");
    }

    #[test]
    fn wrong_checksums_are_never_silent() {
        let samples = zlib(&[0; 70]);
        let mut adler = samples.clone();
        *adler.last_mut().expect("a checksum") ^= 1;
        let found = Page::from_bytes(&file(6, 10, 8, 0, 0, &[], &adler));
        assert!(matches!(found, Err(Error::ImageDecode { .. })), "{found:?}");

        let mut transparency = chunk(b"tRNS", &[0, 0]);
        let right = file(6, 10, 8, 0, 0, &transparency, &samples);
        assert_eq!(Page::from_bytes(&right).expect("a picture").rgb().as_raw()[0], 255);
        *transparency.last_mut().expect("a checksum") ^= 1;
        let page = Page::from_bytes(&file(6, 10, 8, 0, 0, &transparency, &samples)).expect("a picture");
        assert!(matches!(page.warnings(), [PageWarning::Damaged { .. }]), "{page:?}");

        let mut pixels = right;
        let at = pixels.len() - END.len() - 1;
        pixels[at] ^= 1;
        let found = Page::from_bytes(&pixels);
        assert!(matches!(found, Err(Error::ImageDecode { .. })), "{found:?}");
    }
}
