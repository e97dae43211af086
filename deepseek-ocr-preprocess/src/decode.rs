//! Encoded bytes to a page: format, limits, pixels, orientation, warnings.

use crate::{Page, PageOptions, PageWarning, color};
use deepseek_ocr_core::{Error, Result};
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, metadata::Orientation};
use std::io::{Cursor, ErrorKind};

/// The page in `bytes`.
pub(crate) fn decode(bytes: &[u8], options: &PageOptions) -> Result<Page> {
    let (format, name) = format_of(bytes).ok_or(Error::NotAnImage)?;
    let warnings: Vec<PageWarning> = Vec::new();
    let foreign = |error| from_image_error(name, error, options);
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(options.max_alloc);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(foreign)?;
    check_limits(&decoder, options)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(foreign)?;
    let mut image = DynamicImage::from(color::to_rgb(image, options.alpha));
    image.apply_orientation(orientation);
    Ok(Page::new(image.into_rgb8(), warnings))
}

/// The format by its first bytes, and its name in messages.
fn format_of(bytes: &[u8]) -> Option<(ImageFormat, &'static str)> {
    /// Little- and big-endian BigTIFF, which `image` decodes but does not recognise.
    const BIG_TIFF: [&[u8]; 2] = [b"II+\0", b"MM\0+"];
    if BIG_TIFF.iter().any(|magic| bytes.starts_with(magic)) {
        return Some((ImageFormat::Tiff, "TIFF"));
    }
    let format = image::guess_format(bytes).ok()?;
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

/// Compares what the header claims with the limits; nothing is decoded yet.
fn check_limits(decoder: &impl ImageDecoder, options: &PageOptions) -> Result<()> {
    let (width, height) = decoder.dimensions();
    if width == 0 || height == 0 {
        return Err(Error::ImageEmpty { width, height });
    }
    if width > options.max_width || height > options.max_height {
        return Err(Error::ImageTooLarge {
            found: format!("{width} x {height} pixels"),
            limit: format!("{} x {} pixels", options.max_width, options.max_height),
        });
    }
    let rgb = u64::from(width) * u64::from(height) * 3;
    let needed = decoder.total_bytes().saturating_add(rgb);
    if needed > options.max_alloc {
        return Err(Error::ImageTooLarge {
            found: format!("{width} x {height} pixels in {needed} bytes"),
            limit: format!("{} bytes", options.max_alloc),
        });
    }
    Ok(())
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
