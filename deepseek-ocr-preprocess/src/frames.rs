//! The pages or frames of a file: how many there are, from its block structure alone, and those behind the first.

use crate::{png, tiff, webp};
use image::{
    AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageResult, Limits,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
};
use std::io::{Cursor, ErrorKind};

/// The number of frames, 1 where a format has only one or the structure is broken.
pub(crate) fn frames(bytes: &[u8], format: ImageFormat) -> usize {
    let frames = match format {
        ImageFormat::Png => apng(bytes).map(|(frames, apart)| frames + usize::from(apart)),
        ImageFormat::Gif => gif(bytes).map(|(frames, _)| frames),
        ImageFormat::WebP => Some(webp_chunks(bytes).filter(|&(kind, _)| kind == *b"ANMF").count()),
        ImageFormat::Tiff => Some(tiff::pages(bytes)),
        _ => None,
    };
    frames.unwrap_or(1).max(1)
}

/// A frame of an animation (GIF, WebP or PNG) as it is shown, on what the frames before it left.
pub(crate) fn frame(bytes: &[u8], format: ImageFormat, number: usize, limits: Limits) -> ImageResult<DynamicImage> {
    let data = Cursor::new(bytes);
    let (mut frames, before) = match format {
        ImageFormat::WebP => return webp::frame(bytes, number, WebPDecoder::new(data)?.dimensions()),
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(data)?;
            decoder.set_limits(limits)?;
            (decoder.into_frames(), number)
        }
        _ => {
            let apart = apng(bytes).is_some_and(|(_, apart)| apart);
            (PngDecoder::with_limits(data, limits)?.apng()?.into_frames(), number - usize::from(apart))
        }
    };
    let missing = || ImageError::IoError(ErrorKind::UnexpectedEof.into());
    for _ in 0..before {
        frames.next().ok_or_else(missing)??;
    }
    Ok(frames.next().ok_or_else(missing)??.into_buffer().into())
}

/// The number of frames of an animation, and whether the picture that stands for it is none of them.
fn apng(bytes: &[u8]) -> Option<(usize, bool)> {
    let count = |kind| png::chunks(bytes).filter(|chunk| chunk.kind == kind).count();
    let mut head = png::chunks(bytes).take_while(|chunk| chunk.kind != *b"IDAT");
    let control = head.find(|chunk| chunk.kind == *b"acTL")?;
    let claimed = u32::from_be_bytes(*control.data.first_chunk()?) as usize;
    let mut head = png::chunks(bytes).take_while(|chunk| chunk.kind != *b"IDAT");
    let frames = claimed.min(count(*b"fcTL"));
    (frames > 0).then(|| (frames, head.all(|chunk| chunk.kind != *b"fcTL")))
}

/// The number of whole frames of a GIF, and whether its trailer was reached.
pub(crate) fn gif(bytes: &[u8]) -> Option<(usize, bool)> {
    const HEADER: usize = 13;
    let mut at = HEADER + gif_palette(*bytes.get(10)?);
    let mut frames = 0;
    loop {
        let block = match bytes.get(at) {
            Some(0x21) => gif_sub_blocks(bytes, at + 2),
            Some(0x2C) => {
                let palette = bytes.get(at + 9).map(|&flags| gif_palette(flags));
                // A descriptor of ten bytes, its palette, the code size, then the pixels.
                palette.and_then(|palette| gif_sub_blocks(bytes, at + 11 + palette)).inspect(|_| frames += 1)
            }
            Some(0x3B) => return Some((frames, true)),
            _ => None,
        };
        match block {
            Some(end) => at = end,
            None => return Some((frames, false)),
        }
    }
}

/// Bytes of the palette that a GIF's flags announce.
fn gif_palette(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

/// The position behind a chain of sub-blocks, if all of it is there.
fn gif_sub_blocks(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

/// `(name, whether all of it is there)` of each chunk of a WebP file.
pub(crate) fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], bool)> {
    const HEADER: usize = 12;
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        // Chunks are padded to an even length.
        rest = after.get(length.saturating_add(length & 1)..).unwrap_or_default();
        Some((*kind, after.len() >= length))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Frame, RgbaImage, codecs::gif::GifEncoder};
    use proptest::prelude::*;

    fn animation(frames: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new(&mut bytes);
        for _ in 0..frames {
            encoder.encode_frame(Frame::new(RgbaImage::new(4, 3))).expect("encoding to memory");
        }
        drop(encoder);
        bytes
    }

    #[test]
    fn gif_frames_are_counted() {
        let bytes = animation(3);
        assert_eq!(gif(&bytes), Some((3, true)));
        assert_eq!(gif(&bytes[..bytes.len() - 1]), Some((3, false)));
        assert_eq!(frames(&bytes, ImageFormat::Gif), 3);
        assert_eq!(frames(b"GIF89a", ImageFormat::Gif), 1);
    }

    #[test]
    fn apng_frames_are_counted() {
        let chunk =
            |kind: &[u8; 4], data: &[u8]| [&[0, 0, 0, data.len() as u8], kind.as_slice(), data, b"####"].concat();
        let file = |claimed: u8, kinds: &[&[u8; 4]]| {
            let chunks = kinds.iter().flat_map(|&kind| chunk(kind, &[])).collect();
            [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"acTL", &[0, 0, 0, claimed, 0, 0, 0, 0]), chunks].concat()
        };
        let count = |claimed, kinds: &[&[u8; 4]]| frames(&file(claimed, kinds), ImageFormat::Png);
        assert_eq!(count(2, &[b"fcTL", b"IDAT", b"fcTL", b"fdAT"]), 2);
        assert_eq!(count(2, &[b"IDAT", b"fcTL", b"fdAT", b"fcTL", b"fdAT"]), 3, "and the picture before them");
        assert_eq!(count(9, &[b"fcTL", b"IDAT", b"fcTL", b"fdAT"]), 2, "more are claimed");
        assert_eq!(count(0, &[b"fcTL", b"IDAT"]), 1);
    }

    #[test]
    fn webp_frames_are_counted() {
        let bytes = b"RIFF####WEBPANMF\x01\0\0\0a\0ANMF\x02\0\0\0abANMF\x09\0\0\0cut";
        assert_eq!(frames(bytes, ImageFormat::WebP), 3);
        assert_eq!(webp_chunks(bytes).last(), Some((*b"ANMF", false)));
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for format in [ImageFormat::Png, ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Bmp] {
                prop_assert!(frames(&bytes, format) >= 1);
            }
        }
    }
}
