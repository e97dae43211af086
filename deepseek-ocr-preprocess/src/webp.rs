//! Frames of an animated WebP on its canvas.
//!
//! Each frame is decoded as a file of its own and laid on the canvas here: the decoder clears what frames leave behind in
//! no case or in the wrong place.

use image::{
    DynamicImage, GenericImage, ImageDecoder, ImageError, ImageFormat, ImageResult, Rgba, RgbaImage,
    codecs::webp::WebPDecoder, error::DecodingError, imageops,
};
use std::io::{Cursor, ErrorKind};

/// Bytes of the header of a file.
const HEADER: usize = 12;

/// Frame `number` as it is shown, on what the frames before it left.
pub(crate) fn frame(bytes: &[u8], number: usize, (width, height): (u32, u32)) -> ImageResult<DynamicImage> {
    let mut canvas = RgbaImage::new(width, height);
    let mut frames = chunks(bytes.get(HEADER..).unwrap_or_default()).filter(|(kind, _)| *kind == b"ANMF");
    for at in 0..=number {
        let (_, data) = frames.next().ok_or_else(|| ImageError::IoError(ErrorKind::UnexpectedEof.into()))?;
        let frame = Frame::new(data).ok_or_else(|| broken("a frame without a header"))?;
        let picture = frame.picture()?;
        let room = |start: u32, length: u32, side: u32| start.checked_add(length).is_some_and(|end| end <= side);
        if !room(frame.left, frame.width, width) || !room(frame.top, frame.height, height) {
            return Err(broken("a frame that does not lie on the canvas"));
        }
        for (x, y, &pixel) in picture.enumerate_pixels() {
            let under = canvas.get_pixel_mut(frame.left + x, frame.top + y);
            *under = if frame.blended { over(pixel, *under) } else { pixel };
        }
        if frame.cleared && at < number {
            let mut place = canvas.sub_image(frame.left, frame.top, frame.width, frame.height);
            imageops::replace(&mut *place, &RgbaImage::new(frame.width, frame.height), 0, 0);
        }
    }
    Ok(canvas.into())
}

/// A chunk `ANMF`.
struct Frame<'a> {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
    /// Whether it is laid over what is there, not put in its place.
    blended: bool,
    /// Whether its place is cleared before the next frame.
    cleared: bool,
    /// The chunks of the picture.
    data: &'a [u8],
}

impl<'a> Frame<'a> {
    fn new(data: &'a [u8]) -> Option<Self> {
        let (head, data) = data.split_at_checked(16)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]);
        Some(Self {
            left: number(0) * 2,
            top: number(3) * 2,
            width: number(6) + 1,
            height: number(9) + 1,
            blended: head[15] & 2 == 0,
            cleared: head[15] & 1 == 1,
            data,
        })
    }

    fn picture(&self) -> ImageResult<RgbaImage> {
        const HAS_ALPHA: u8 = 0x10;
        let side = |side: u32| (side - 1).to_le_bytes();
        let extended = [&[HAS_ALPHA, 0, 0, 0], &side(self.width)[..3], &side(self.height)[..3]].concat();
        let mut body = b"WEBP".to_vec();
        for (kind, data) in chunks(self.data) {
            match kind {
                b"ALPH" => {
                    [(b"VP8X", extended.as_slice()), (kind, data)].map(|(kind, data)| push(&mut body, kind, data))
                }
                b"VP8 " | b"VP8L" => [push(&mut body, kind, data), ()],
                _ => [(), ()],
            };
        }
        let mut file = Vec::with_capacity(body.len() + 8);
        push(&mut file, b"RIFF", &body);
        let decoder = WebPDecoder::new(Cursor::new(file))?;
        if decoder.dimensions() != (self.width, self.height) {
            return Err(broken("a frame of another size than its header says"));
        }
        Ok(DynamicImage::from_decoder(decoder)?.into_rgba8())
    }
}

/// The whole chunks of a body.
fn chunks(mut rest: &[u8]) -> impl Iterator<Item = (&[u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let data = after.get(..length)?;
        // Chunks are padded to an even length.
        rest = after.get(length + (length & 1)..).unwrap_or_default();
        Some((kind, data))
    })
}

fn push(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend_from_slice(kind);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend_from_slice(data);
    out.extend(std::iter::repeat_n(0, data.len() & 1));
}

/// One pixel over another.
fn over(Rgba([r, g, b, alpha]): Rgba<u8>, under: Rgba<u8>) -> Rgba<u8> {
    // In 1/255 of 8 bits: what the pixel under it adds to the opacity.
    let (above, below) = (u32::from(alpha) * 255, u32::from(under.0[3]) * (255 - u32::from(alpha)));
    let total = above + below;
    if total == 0 {
        return Rgba([0; 4]);
    }
    let mix =
        |value: u8, i: usize| ((u32::from(value) * above + u32::from(under.0[i]) * below + total / 2) / total) as u8;
    Rgba([mix(r, 0), mix(g, 1), mix(b, 2), ((total + 127) / 255) as u8])
}

fn broken(reason: &str) -> ImageError {
    ImageError::Decoding(DecodingError::new(ImageFormat::WebP.into(), reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_lie_over_each_other() {
        assert_eq!(over(Rgba([1, 2, 3, 255]), Rgba([9, 9, 9, 255])), Rgba([1, 2, 3, 255]));
        assert_eq!(over(Rgba([1, 2, 3, 0]), Rgba([9, 8, 7, 6])), Rgba([9, 8, 7, 6]));
        assert_eq!(over(Rgba([200, 0, 0, 128]), Rgba([0, 0, 0, 0])), Rgba([200, 0, 0, 128]));
        assert_eq!(over(Rgba([255, 255, 255, 51]), Rgba([0, 0, 0, 255])), Rgba([51, 51, 51, 255]));
    }
}
