//! Encoded bytes to a page: format, limits, pixels, orientation, warnings.

use crate::{
    Damage, Page, PageOptions, PageWarning, color,
    ending::{Cut, Ending, ending},
    frames::{frame, frames},
    orientation::orientation,
    tiff,
};
use deepseek_ocr_core::{Error, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage};
use std::io::{Cursor, ErrorKind};

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
        // The decoder fills what a JPEG lacks behind its header; other formats have no page without all of it.
        Ending::Cut(cut) if format == ImageFormat::Jpeg && cut != Cut::Header => {
            warnings.push(PageWarning::Damaged { format: name, reason: cut.to_string() });
        }
        Ending::Cut(cut) => return Err(Error::ImageTruncated { format: name, reason: cut.to_string() }),
    }
    refuse(&warnings, name, options)?;
    let frames = frames(bytes, format);
    if options.page >= frames {
        return Err(Error::invalid_request("page", options.page, format!("less than {frames}, the number of pages")));
    }
    let rgb = if format == ImageFormat::Tiff {
        let (rgb, damage) = tiff::decode(bytes, options)?;
        warnings.extend(damage.map(|reason| PageWarning::Damaged { format: name, reason }));
        rgb
    } else {
        pixels(bytes, format, name, options)?
    };
    refuse(&warnings, name, options)?;
    if frames > 1 && options.page == 0 {
        warnings.push(PageWarning::MoreFrames { frames });
    }
    Ok(Page::new(rgb, warnings))
}

/// An error where damage was found and is not to be put up with.
fn refuse(warnings: &[PageWarning], format: &'static str, options: &PageOptions) -> Result<()> {
    match (options.damage, warnings.first()) {
        (Damage::Refuse, Some(warning)) => Err(Error::ImageTruncated { format, reason: warning.to_string() }),
        _ => Ok(()),
    }
}

/// The number of pages or frames in `bytes`.
pub(crate) fn count(bytes: &[u8]) -> Result<usize> {
    Ok(frames(bytes, format_of(bytes)?.0))
}

/// The upright pixels of a frame, in any format but TIFF.
fn pixels(bytes: &[u8], format: ImageFormat, name: &'static str, options: &PageOptions) -> Result<RgbImage> {
    let foreign = |error| from_image_error(name, error, options);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_alloc);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(foreign)?;
    let (width, height) = decoder.dimensions();
    options.check(width, height, decoder.total_bytes())?;
    let orientation = orientation(&mut decoder, bytes, format);
    let image = match options.page {
        0 => DynamicImage::from_decoder(decoder).map_err(foreign)?,
        number => frame(bytes, format, number, limits).map_err(foreign)?,
    };
    let mut image = DynamicImage::from(color::to_rgb(image, options.alpha));
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// The format by its first bytes, and its name in messages.
fn format_of(bytes: &[u8]) -> Result<(ImageFormat, &'static str)> {
    let unknown = || Error::NotAnImage { found: "the data is in no known format".into() };
    /// Little- and big-endian BigTIFF, which `image` decodes but does not recognise.
    const BIG_TIFF: [&[u8]; 2] = [b"II+\0", b"MM\0+"];
    if BIG_TIFF.iter().any(|magic| bytes.starts_with(magic)) {
        return Ok((ImageFormat::Tiff, "TIFF"));
    }
    let format = image::guess_format(bytes).map_err(|_| unknown())?;
    let name = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Tiff => "TIFF",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Ico => "ICO",
        ImageFormat::Pnm => "PNM",
        _ => return Err(unknown()),
    };
    Ok((format, name))
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
            let mut fields = bytes.get(2..)?.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty());
            let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
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
        for bytes in [png.as_slice(), &bmp, gif, b"P6 0 7 255 ", b"P5\n7 0\n255\n"] {
            let found = Page::from_bytes(bytes);
            assert!(matches!(found, Err(Error::ImageEmpty { .. })), "{found:?}");
        }
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
