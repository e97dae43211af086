//! BMP files whose header does not say where their pixels begin.

use std::borrow::Cow;

/// Bytes of the file header, in front of the information header.
const FILE_HEADER: usize = 14;

/// The file, whose pixels begin behind the headers and the palette where it claims that they begin within the headers.
pub(crate) fn located(bytes: &[u8]) -> Cow<'_, [u8]> {
    const OFFSET: usize = 10;
    let patched = || {
        let word = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let start = FILE_HEADER.checked_add(word(FILE_HEADER)? as usize)?;
        if word(OFFSET)? as usize >= start {
            return None;
        }
        let pixels = u32::try_from(start.checked_add(between(bytes, start - FILE_HEADER)?)?).ok()?;
        let mut patched = bytes.to_vec();
        patched[OFFSET..OFFSET + 4].copy_from_slice(&pixels.to_le_bytes());
        Some(patched)
    };
    patched().map_or(Cow::Borrowed(bytes), Cow::Owned)
}

/// Bytes of masks and palette behind an information header of `size` bytes.
fn between(bytes: &[u8], size: usize) -> Option<usize> {
    /// The oldest header, whose palette has three bytes a colour, and the one that has its masks behind it.
    const CORE: usize = 12;
    const INFO: usize = 40;
    let field = |at: usize| bytes.get(FILE_HEADER + at..);
    let word = |at: usize| Some(u32::from_le_bytes(*field(at)?.first_chunk()?) as usize);
    let depth = |at: usize| Some(u16::from_le_bytes(*field(at)?.first_chunk()?));
    let colors = |bits: u16| if bits <= 8 { 1 << bits } else { 0 };
    if size == CORE {
        return Some(3 * colors(depth(10)?));
    }
    let masks = match word(16)? {
        3 if size == INFO => 12,
        6 if size == INFO => 16,
        _ => 0,
    };
    let colors = Some(word(32)?).filter(|&used| used > 0).unwrap_or(colors(depth(14)?));
    colors.checked_mul(4)?.checked_add(masks)
}

#[cfg(test)]
mod tests {
    use crate::Page;
    use image::{DynamicImage, GrayImage, ImageFormat, Luma};
    use std::io::Cursor;

    #[test]
    fn pixels_without_a_place_follow_the_palette() {
        let grey = DynamicImage::from(GrayImage::from_fn(9, 5, |x, y| Luma([(x * 20 + y) as u8])));
        for image in [grey.clone(), grey.to_rgb8().into(), grey.to_rgba8().into()] {
            let mut file = Cursor::new(Vec::new());
            image.write_to(&mut file, ImageFormat::Bmp).expect("encoding to memory");
            let mut file = file.into_inner();
            for place in [0, 14, 53u32] {
                file[10..14].copy_from_slice(&place.to_le_bytes());
                let page = Page::from_bytes(&file).expect("a whole picture");
                assert_eq!(page.rgb(), &grey.to_rgb8(), "{place}");
            }
        }
    }

    #[test]
    fn cut_headers_get_an_answer() {
        for keep in 0..60 {
            let _ = super::located(&[b"BM".as_slice(), &[0; 12], &[40], &[0; 60]].concat()[..keep]);
        }
    }
}
