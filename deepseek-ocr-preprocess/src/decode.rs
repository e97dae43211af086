//! Encoded bytes to a page: format, limits, pixels, orientation, warnings.

use crate::{
    Damage, Page, PageOptions, PageWarning, bmp, color,
    ending::{Ending, ending},
    frames::{frame, frames},
    gif,
    ico::{self, Largest},
    jpeg::Jpeg,
    orientation::orientation,
    png, sniff, tiff,
};
use deepseek_ocr_core::{Error, Result};
use image::{
    DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage, error::UnsupportedErrorKind,
    metadata::Orientation,
};
use std::{
    io::{Cursor, ErrorKind},
    ops::RangeInclusive,
};

/// The page in `bytes`.
pub(crate) fn decode(bytes: &[u8], options: &PageOptions) -> Result<Page> {
    let (format, name) = format_of(bytes)?;
    if let Some((width, height)) = claimed_size(bytes, format) {
        options.check(width, height, 0)?;
    }
    let mut warnings = Vec::new();
    match ending(bytes, format) {
        Ending::Complete => {}
        Ending::MarkMissing => warnings.push(PageWarning::EndMissing { format: name }),
        Ending::Damaged(cut) => warnings.push(PageWarning::Damaged { format: name, reason: cut.to_string() }),
        Ending::Cut(cut) => return Err(Error::ImageTruncated { format: name, reason: cut.to_string() }),
    }
    let frames = frames(bytes, format);
    if options.page >= frames {
        return Err(Error::invalid_request("page", options.page, format!("less than {frames}, the number of pages")));
    }
    let (image, orientation) = stored(bytes, format, name, options, &mut warnings)?;
    if let (Damage::Refuse, Some(warning)) = (options.damage, warnings.first()) {
        return Err(Error::ImageTruncated { format: name, reason: warning.to_string() });
    }
    let (rgb, warning) = color::to_rgb(image, options.alpha);
    warnings.extend(warning);
    let mut image = DynamicImage::from(rgb);
    image.apply_orientation(orientation);
    if frames > 1 && options.page == 0 {
        warnings.push(PageWarning::MoreFrames { frames });
    }
    Ok(Page::new(image.into_rgb8(), warnings))
}

/// The number of pages or frames in `bytes`.
pub(crate) fn count(bytes: &[u8]) -> Result<usize> {
    Ok(frames(bytes, format_of(bytes)?.0))
}

/// The pixels of a page as the file has them, and how they must be turned; what is missing of them becomes a warning.
fn stored(
    bytes: &[u8],
    format: ImageFormat,
    name: &'static str,
    options: &PageOptions,
    warnings: &mut Vec<PageWarning>,
) -> Result<(DynamicImage, Orientation)> {
    let read = |bytes: &[u8]| read(bytes, format, name, options);
    let image = match format {
        ImageFormat::Tiff => {
            let page = tiff::decode(bytes, options)?;
            warnings.extend(page.damage.map(|reason| PageWarning::Damaged { format: name, reason }));
            return Ok((page.image, page.orientation));
        }
        ImageFormat::Jpeg => jpeg(bytes, options, warnings)?.into(),
        ImageFormat::Png if options.page == 0 => png::decode(bytes, options)?,
        ImageFormat::Ico => match ico::largest(bytes) {
            Some(Largest::Png(png)) => png::decode(png, options)?,
            Some(Largest::Bitmap(alone)) => ico::masked(&alone, read(&alone)?.into_rgba8()),
            None => read(bytes)?,
        },
        ImageFormat::Gif => read(&gif::enlarged(bytes))?,
        ImageFormat::Bmp => match read(&bmp::located(bytes))? {
            // An alpha that is zero everywhere was declared, but not written: viewers show the colours.
            DynamicImage::ImageRgba8(image) if image.pixels().all(|pixel| pixel.0[3] == 0) => {
                DynamicImage::from(image).into_rgb8().into()
            }
            image => image,
        },
        _ => read(bytes)?,
    };
    Ok((image, orientation(bytes, format)))
}

fn jpeg(bytes: &[u8], options: &PageOptions, warnings: &mut Vec<PageWarning>) -> Result<RgbImage> {
    let jpeg = Jpeg::open(bytes)?;
    let (width, height) = jpeg.dimensions();
    options.check(width, height, jpeg.plane_bytes())?;
    let picture = jpeg.decode()?;
    if let Some(damage) = &picture.damage {
        warnings.push(PageWarning::Damaged { format: "JPEG", reason: damage.to_string() });
    } else if picture.end_missing {
        warnings.push(PageWarning::EndMissing { format: "JPEG" });
    }
    Ok(RgbImage::from_raw(width, height, picture.rgb()).expect("three samples a pixel"))
}

/// What the decoder of `image` reads.
fn read(bytes: &[u8], format: ImageFormat, name: &'static str, options: &PageOptions) -> Result<DynamicImage> {
    let foreign = |error| from_image_error(name, error, options);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_alloc);
    reader.limits(limits.clone());
    let decoder = reader.into_decoder().map_err(foreign)?;
    let (width, height) = decoder.dimensions();
    options.check(width, height, decoder.total_bytes())?;
    let image = match options.page {
        0 => DynamicImage::from_decoder(decoder),
        number => frame(bytes, format, number, limits),
    };
    image.map_err(foreign)
}

/// The format and its name in messages.
fn format_of(bytes: &[u8]) -> Result<(ImageFormat, &'static str)> {
    let found = claimed_format(bytes).ok_or_else(|| Error::NotAnImage { found: sniff::found(bytes) })?;
    match (found.0, sniff::raw_photo(bytes)) {
        (ImageFormat::Tiff, Some(found)) => Err(Error::NotAnImage { found }),
        _ => Ok(found),
    }
}

/// The format by its first bytes.
fn claimed_format(bytes: &[u8]) -> Option<(ImageFormat, &'static str)> {
    /// Little- and big-endian BigTIFF, which `image` decodes but does not recognise.
    const BIG_TIFF: [&[u8]; 2] = [b"II+\0", b"MM\0+"];
    if BIG_TIFF.iter().any(|magic| bytes.starts_with(magic)) {
        return Some((ImageFormat::Tiff, "TIFF"));
    }
    let format = image::guess_format(bytes).ok().filter(|&format| is_plausible(bytes, format))?;
    let name = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Ico => "ICO",
        ImageFormat::Pnm => "PNM",
        _ => return None,
    };
    Some((format, name))
}

/// Whether more speaks for a format than two letters with which a text may begin as well.
fn is_plausible(bytes: &[u8], format: ImageFormat) -> bool {
    /// Sizes of the headers that there are: OS/2 1.x and 2.x, and Windows up to version 5.
    const BMP_HEADERS: RangeInclusive<u32> = 12..=124;
    match format {
        ImageFormat::Bmp => bytes
            .get(14..)
            .and_then(|rest| rest.first_chunk())
            .is_none_or(|&size| BMP_HEADERS.contains(&u32::from_le_bytes(size))),
        // Blanks, then a number or a comment; PAM has names there.
        ImageFormat::Pnm => {
            let rest = bytes.get(2..).unwrap_or_default();
            let is_field = |byte: &u8| {
                b"#-".contains(byte) || byte.is_ascii_digit() || bytes[1] == b'7' && byte.is_ascii_uppercase()
            };
            rest.is_empty()
                || rest[0].is_ascii_whitespace() && rest.trim_ascii_start().first().is_none_or(is_field)
                || rest[0] == b'#'
        }
        _ => true,
    }
}

/// The size in the header of a format whose decoder calls an empty or a huge image broken.
fn claimed_size(bytes: &[u8], format: ImageFormat) -> Option<(u32, u32)> {
    let at = |start: usize| Some(*bytes.get(start..)?.first_chunk::<4>()?);
    match format {
        ImageFormat::Png => Some((u32::from_be_bytes(at(16)?), u32::from_be_bytes(at(20)?))),
        ImageFormat::Bmp => {
            const CORE_HEADER: u32 = 12;
            let (width, height) = (i32::from_le_bytes(at(18)?), i32::from_le_bytes(at(22)?));
            // The oldest header has 16-bit sides; a negative height means rows from the top, a negative width nothing.
            let modern = u32::from_le_bytes(at(14)?) != CORE_HEADER && width >= 0;
            modern.then_some((width.unsigned_abs(), height.unsigned_abs()))
        }
        ImageFormat::Gif => {
            let [w0, w1, h0, h1] = at(6)?;
            Some((u32::from(u16::from_le_bytes([w0, w1])), u32::from(u16::from_le_bytes([h0, h1]))))
        }
        ImageFormat::Pnm => {
            // Numbers with blanks or comments between them; the first line of PAM has none.
            let mut rest = bytes.get(2..)?;
            let mut number = || {
                loop {
                    rest = rest.trim_ascii_start();
                    match rest.first()? {
                        b'#' => rest = &rest[rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?..],
                        _ => break,
                    }
                }
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok();
                rest = &rest[digits..];
                number
            };
            Some((number()?, number()?))
        }
        _ => None,
    }
}

fn from_image_error(format: &'static str, error: ImageError, options: &PageOptions) -> Error {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            Error::ImageTruncated { format, reason: "the data ends within the pixels or the header".into() }
        }
        ImageError::Limits(error) => {
            Error::ImageTooLarge { found: error.to_string(), limit: format!("{} bytes", options.max_alloc) }
        }
        ImageError::Unsupported(error) => Error::ImageUnsupported {
            format,
            feature: match error.kind() {
                UnsupportedErrorKind::Color(color) => format!("samples of type {color:?}"),
                UnsupportedErrorKind::GenericFeature(feature) => feature,
                _ => error.to_string(),
            },
        },
        error => Error::ImageDecode { format, source: Box::new(error) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, codecs::jpeg::JpegEncoder};

    fn picture() -> RgbImage {
        RgbImage::from_fn(97, 61, |x, y| Rgb([((x * 31) ^ (y * 17)) as u8, (x * y) as u8, (x * x + y) as u8]))
    }

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let picture = DynamicImage::from(picture());
        // An icon is RGBA always.
        let picture = if format == ImageFormat::Ico { picture.to_rgba8().into() } else { picture };
        picture.write_to(&mut bytes, format).expect("encoding to memory");
        bytes.into_inner()
    }

    const FORMATS: [ImageFormat; 8] = [
        ImageFormat::Png,
        ImageFormat::Jpeg,
        ImageFormat::WebP,
        ImageFormat::Tiff,
        ImageFormat::Bmp,
        ImageFormat::Gif,
        ImageFormat::Ico,
        ImageFormat::Pnm,
    ];

    #[test]
    fn every_format_is_read_and_lossless_ones_exactly() {
        for format in FORMATS {
            let page = Page::from_bytes(&encoded(format)).expect("a whole picture");
            assert_eq!((page.width(), page.height()), (97, 61), "{format:?}");
            assert!(page.warnings().is_empty(), "{format:?}");
            if !matches!(format, ImageFormat::Jpeg | ImageFormat::Gif) {
                assert_eq!(page.rgb(), &picture(), "{format:?}");
            }
        }
    }

    #[test]
    fn half_a_file_is_truncated_in_every_format() {
        for format in FORMATS {
            let bytes = encoded(format);
            for keep in [bytes.len() / 2, bytes.len() * 3 / 4, bytes.len() * 15 / 16] {
                let found = Page::reader().with_damage(Damage::Refuse).from_bytes(&bytes[..keep]);
                assert!(matches!(found, Err(Error::ImageTruncated { .. })), "{format:?}, {keep}: {found:?}");
                let warned = |page: Page| matches!(page.warnings(), [PageWarning::Damaged { .. }]);
                let kept = Page::from_bytes(&bytes[..keep]).is_ok_and(warned);
                assert_eq!(kept, format == ImageFormat::Jpeg, "{format:?}, {keep}");
            }
        }
    }

    #[test]
    fn a_missing_end_mark_is_a_warning() {
        let bytes = encoded(ImageFormat::Jpeg);
        let page = Page::from_bytes(&bytes[..bytes.len() - 2]).expect("all rows are there");
        assert_eq!(page.warnings(), [PageWarning::EndMissing { format: "JPEG" }]);
        assert_eq!(page.rgb(), Page::from_bytes(&bytes).expect("whole").rgb());
    }

    #[test]
    fn pictures_without_pixels_have_their_own_error() {
        let mut png = encoded(ImageFormat::Png);
        png[16..20].fill(0);
        let mut bmp = encoded(ImageFormat::Bmp);
        bmp[18..22].fill(0);
        let gif = b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\x02\0;";
        for bytes in [png.as_slice(), &bmp, gif, b"P6 0 7 255 ", b"P5\n7 0\n255\n", b"P5 # 3\n#9\n 0#\n7 255\n"] {
            let found = Page::from_bytes(bytes);
            assert!(matches!(found, Err(Error::ImageEmpty { .. })), "{found:?}");
        }
    }

    #[test]
    fn a_bitmap_whose_alpha_is_zero_everywhere_shows_its_colours() {
        // A header of 108 bytes, which declares masks for red, green, blue and alpha.
        let mut bytes = b"BM\0\0\0\0\0\0\0\0\x7A\0\0\0\x6C\0\0\0\x02\0\0\0\x01\0\0\0\x01\0\x20\0\x03\0\0\0".to_vec();
        bytes.resize(54, 0);
        bytes.extend([0x00FF_0000, 0xFF00, 0xFF, 0xFF00_0000u32].iter().flat_map(|mask| mask.to_le_bytes()));
        bytes.resize(122, 0);
        let zero = [bytes.as_slice(), &[3, 2, 1, 0, 6, 5, 4, 0]].concat();
        assert_eq!(Page::from_bytes(&zero).expect("a picture").rgb().as_raw(), &[1, 2, 3, 4, 5, 6]);
        let half = [bytes.as_slice(), &[3, 2, 1, 0, 6, 5, 4, 255]].concat();
        assert_eq!(Page::from_bytes(&half).expect("a picture").rgb().as_raw(), &[255, 255, 255, 4, 5, 6]);
    }

    #[test]
    fn no_format_is_no_image() {
        for bytes in [b"".as_slice(), b"\xFF", b"a text file", b"%PDF-1.7"] {
            assert!(matches!(Page::from_bytes(bytes), Err(Error::NotAnImage { .. })));
        }
    }

    #[test]
    fn exif_turns_the_page() {
        // One EXIF entry: orientation 6, turn by 90 degrees clockwise.
        let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
        image::ImageEncoder::set_exif_metadata(&mut encoder, exif.to_vec()).expect("JPEG takes EXIF");
        encoder.encode_image(&picture()).expect("encoding to memory");
        let page = Page::from_bytes(&bytes).expect("a whole picture");
        assert_eq!((page.width(), page.height()), (61, 97));
        let turned = image::imageops::rotate90(&picture());
        let far = page.rgb().as_raw().iter().zip(turned.as_raw()).filter(|(a, b)| a.abs_diff(**b) > 64).count();
        assert!(far * 20 < turned.as_raw().len(), "{far} samples differ much");
    }
}
