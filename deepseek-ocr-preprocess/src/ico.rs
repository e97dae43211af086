//! ICO files: their largest picture, and what is transparent in it.

use image::{DynamicImage, RgbaImage};

/// Bytes before the directory, and of an entry.
const HEAD: usize = 6;
const ENTRY: usize = 16;

/// The largest picture of an icon.
pub(crate) enum Largest<'a> {
    /// A PNG file.
    Png(&'a [u8]),
    /// A bitmap; the icon with this picture alone.
    Bitmap(Vec<u8>),
}

/// The picture with the most pixels, among such the one with the most bits a pixel: an icon holds one picture in several
/// sizes. The decoder in `image` prefers the most bits.
pub(crate) fn largest(bytes: &[u8]) -> Option<Largest<'_>> {
    let count = usize::from(u16::from_le_bytes(*bytes.get(4..)?.first_chunk()?));
    let entries = bytes.get(HEAD..)?.chunks_exact(ENTRY).take(count);
    let side = |side: u8| if side == 0 { 256 } else { u32::from(side) };
    let entry = entries.max_by_key(|entry| (side(entry[0]) * side(entry[1]), entry[6]))?;
    let picture = picture(bytes, entry)?;
    if picture.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Some(Largest::Png(picture));
    }
    let mut alone = bytes.to_vec();
    alone[4..6].copy_from_slice(&1u16.to_le_bytes());
    alone[HEAD..HEAD + ENTRY].copy_from_slice(entry);
    Some(Largest::Bitmap(alone))
}

/// The bytes of an entry's picture, as far as they are there.
fn picture<'a>(bytes: &'a [u8], entry: &[u8]) -> Option<&'a [u8]> {
    let at = |start: usize| Some(u32::from_le_bytes(*entry.get(start..)?.first_chunk()?) as usize);
    let (length, start) = (at(8)?, at(12)?);
    let rest = bytes.get(start..)?;
    Some(rest.get(..length).unwrap_or(rest))
}

/// The picture of an icon that holds a bitmap alone, with its mask where its alpha is zero everywhere: that is how
/// 32 bits a pixel were written before they had an alpha, and how viewers still show them.
pub(crate) fn masked(alone: &[u8], mut image: RgbaImage) -> DynamicImage {
    if image.pixels().all(|pixel| pixel.0[3] == 0) {
        let mask = alone.get(HEAD..).and_then(|entry| mask(picture(alone, entry)?, image.width(), image.height()));
        let stride = image.width().div_ceil(32) as usize * 4;
        let height = image.height();
        for (x, y, pixel) in image.enumerate_pixels_mut() {
            let byte = |mask: &[u8]| mask[(height - 1 - y) as usize * stride + x as usize / 8];
            let clear = mask.is_some_and(|mask| byte(mask) & (0x80 >> (x % 8)) != 0);
            pixel.0[3] = if clear { 0 } else { u8::MAX };
        }
    }
    image.into()
}

/// The mask behind the pixels of a bitmap with 32 bits a pixel: rows from the bottom, a bit a pixel, set where it is clear.
fn mask(bitmap: &[u8], width: u32, height: u32) -> Option<&[u8]> {
    let header = u32::from_le_bytes(*bitmap.first_chunk()?) as usize;
    let (width, height) = (width as usize, height as usize);
    let pixels = header.checked_add(width.checked_mul(height)?.checked_mul(4)?)?;
    bitmap.get(pixels..)?.get(..width.div_ceil(32) * 4 * height)
}

#[cfg(test)]
mod tests {
    use crate::{Page, PageWarning};

    /// A bitmap of an icon with 32 bits a pixel: the colours are `x * 40, y * 40, 7`, the alpha is zero.
    fn bitmap(side: u32, mask: impl Fn(u32, u32) -> bool) -> Vec<u8> {
        let mut bytes = [40, side, side * 2].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        bytes.extend([1, 0, 32, 0]);
        bytes.extend([0; 24]);
        for y in (0..side).rev() {
            bytes.extend((0..side).flat_map(|x| [7, y as u8 * 40, x as u8 * 40, 0]));
        }
        for y in (0..side).rev() {
            let bits = (0..side).fold(0u32, |bits, x| bits | u32::from(mask(x, y)) << (31 - x));
            bytes.extend(bits.to_be_bytes());
        }
        bytes
    }

    fn icon(pictures: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 1, 0, pictures.len() as u8, 0];
        let mut start = 6 + 16 * pictures.len() as u32;
        for (side, bits, picture) in pictures {
            bytes.extend([*side, *side, 0, 0, 1, 0, *bits, 0]);
            bytes.extend([picture.len() as u32, start].iter().flat_map(|value| value.to_le_bytes()));
            start += picture.len() as u32;
        }
        bytes.extend(pictures.iter().flat_map(|(_, _, picture)| picture.clone()));
        bytes
    }

    #[test]
    fn a_bitmap_whose_alpha_is_zero_shows_what_its_mask_leaves() {
        let page = Page::from_bytes(&icon(&[(5, 32, bitmap(5, |x, y| x == 1 && y == 3))])).expect("a picture");
        assert_eq!(page.rgb()[(4, 2)].0, [160, 80, 7]);
        assert_eq!(page.rgb()[(1, 2)].0, [40, 80, 7]);
        assert_eq!(page.rgb()[(1, 3)].0, [255; 3]);
        let clear = Page::from_bytes(&icon(&[(5, 32, bitmap(5, |_, _| true))])).expect("a picture");
        assert_eq!(clear.warnings(), [PageWarning::Invisible]);
    }

    #[test]
    fn the_largest_picture_is_the_page_and_a_png_may_have_any_colours() {
        let mut png = std::io::Cursor::new(Vec::new());
        let grey = image::GrayImage::from_fn(9, 9, |x, y| image::Luma([(x * y) as u8]));
        grey.write_to(&mut png, image::ImageFormat::Png).expect("encoding to memory");
        let page = Page::from_bytes(&icon(&[(5, 32, bitmap(5, |_, _| false)), (9, 8, png.into_inner())]));
        let page = page.expect("a picture");
        assert_eq!((page.width(), page.rgb()[(8, 7)].0), (9, [56; 3]));
        let page = Page::from_bytes(&icon(&[(5, 32, bitmap(5, |_, _| false)), (3, 32, bitmap(3, |_, _| false))]));
        assert_eq!(page.expect("a picture").width(), 5);
    }
}
