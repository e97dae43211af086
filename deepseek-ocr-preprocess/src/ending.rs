//! Whether a file holds all of its first frame, for the formats whose decoders do not always tell.

use crate::{
    frames,
    ico::{self, Largest},
    png, tiff,
};
use image::ImageFormat;
use std::fmt;

/// How a file ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Where it should, or the decoder will tell.
    Complete,
    /// After the last row, before the format's end mark.
    MarkMissing,
    /// With its end mark, but not all of the pixels can be read.
    Damaged(Cut),
    /// Before the last row, or there is no telling.
    Cut(Cut),
}

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    Header,
    Pixels,
    /// Of a block with this name.
    Checksum([u8; 4]),
}

/// How the file ends.
pub(crate) fn ending(bytes: &[u8], format: ImageFormat) -> Ending {
    match format {
        ImageFormat::Gif => match frames::gif(bytes) {
            Some((_, true)) => Ending::Complete,
            Some((0, false)) => Ending::Cut(Cut::Pixels),
            Some((_, false)) => Ending::MarkMissing,
            None => Ending::Cut(Cut::Header),
        },
        ImageFormat::Png => png::ending(bytes),
        ImageFormat::Ico => match ico::largest(bytes) {
            Some(Largest::Png(png)) => png::ending(png),
            Some(Largest::Bitmap(_)) => Ending::Complete,
            None => Ending::Cut(Cut::Header),
        },
        ImageFormat::WebP => webp(bytes),
        ImageFormat::Tiff if tiff::pages(bytes) == 0 => Ending::Cut(Cut::Header),
        _ => Ending::Complete,
    }
}

fn webp(bytes: &[u8]) -> Ending {
    const PIXELS: [[u8; 4]; 3] = [*b"VP8 ", *b"VP8L", *b"ANMF"];
    match frames::webp_chunks(bytes).find(|(kind, _)| PIXELS.contains(kind)) {
        None => Ending::Cut(Cut::Header),
        Some((_, false)) => Ending::Cut(Cut::Pixels),
        Some((_, true)) if frames::webp_chunks(bytes).any(|(_, whole)| !whole) => Ending::MarkMissing,
        Some((_, true)) => Ending::Complete,
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => f.write_str("the data ends within the header"),
            Self::Pixels => f.write_str("the data ends within the pixels"),
            Self::Checksum(name) => write!(f, "the checksum of {} is wrong", name.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webp_needs_its_pixel_chunk() {
        let whole = b"RIFF####WEBPVP8L\x02\0\0\0abEXIF\x04\0\0\0abcd";
        assert_eq!(ending(whole, ImageFormat::WebP), Ending::Complete);
        assert_eq!(ending(&whole[..whole.len() - 1], ImageFormat::WebP), Ending::MarkMissing);
        assert_eq!(ending(&whole[..21], ImageFormat::WebP), Ending::Cut(Cut::Pixels));
        assert_eq!(ending(&whole[..14], ImageFormat::WebP), Ending::Cut(Cut::Header));
    }
}
