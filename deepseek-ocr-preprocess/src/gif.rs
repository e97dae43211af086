//! GIF files whose first frame is larger than the screen that the header claims: the decoder would cut it.

use std::borrow::Cow;

/// Bytes before the palette.
const HEADER: usize = 13;

/// The file with a screen that holds all of the first frame, as viewers and Pillow enlarge it.
pub(crate) fn enlarged(bytes: &[u8]) -> Cow<'_, [u8]> {
    let needed = || {
        let frame = first_frame(bytes)?;
        let side = |bytes: &[u8], at: usize| Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let end = |start: usize| Some(side(frame, start)?.saturating_add(side(frame, start + 4)?));
        let screen = [side(bytes, 6)?, side(bytes, 8)?];
        let needed = [screen[0].max(end(1)?), screen[1].max(end(3)?)];
        (needed != screen).then_some(needed)
    };
    let Some([width, height]) = needed() else { return bytes.into() };
    let mut bytes = bytes.to_vec();
    bytes[6..8].copy_from_slice(&width.to_le_bytes());
    bytes[8..10].copy_from_slice(&height.to_le_bytes());
    bytes.into()
}

/// The data from the first frame's descriptor on.
fn first_frame(bytes: &[u8]) -> Option<&[u8]> {
    let flags = *bytes.get(10)?;
    let palette = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut rest = bytes.get(HEADER + palette..)?;
    // Extensions: an introducer, a label, and sub-blocks up to an empty one.
    while *rest.first()? == 0x21 {
        rest = rest.get(2..)?;
        while let length @ 1.. = usize::from(*rest.first()?) {
            rest = rest.get(1 + length..)?;
        }
        rest = &rest[1..];
    }
    rest.starts_with(b",").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Page;
    use image::{ImageFormat, Rgb, RgbImage};
    use proptest::prelude::*;
    use std::io::Cursor;

    #[test]
    fn a_frame_larger_than_the_screen_is_read_whole() {
        let picture = RgbImage::from_fn(9, 7, |x, y| Rgb([(x * 25) as u8, (y * 30) as u8, 0]));
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, ImageFormat::Gif).expect("encoding to memory");
        let mut bytes = bytes.into_inner();
        assert!(matches!(enlarged(&bytes), Cow::Borrowed(_)));
        let whole = Page::from_bytes(&bytes).expect("a picture");
        bytes[6..10].copy_from_slice(&[5, 0, 4, 0]);
        assert_eq!(Page::from_bytes(&bytes).expect("a picture"), whole);
        assert_eq!((whole.width(), whole.height()), (9, 7));
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(enlarged(&[b"GIF89a\x01\0\x01\0\0\0\0!\xFE".as_slice(), &bytes].concat()).len() > 13);
        }
    }
}
