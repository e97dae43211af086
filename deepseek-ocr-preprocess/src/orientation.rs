//! Which way up a page is: one rule for all formats.

use crate::{
    exif::{self, Directory},
    metadata::{Metadata, metadata},
    xmp,
};
use image::{ImageFormat, metadata::Orientation};

/// How the decoded pixels must be turned to stand upright; broken data is ignored. The pages of a TIFF have one each: see its decoder.
pub(crate) fn orientation(bytes: &[u8], format: ImageFormat) -> Orientation {
    let from_exif = metadata(bytes, format).find_map(|metadata| match metadata {
        Metadata::Exif(data) => Directory::first(&data)?.find(exif::ORIENTATION)?.number(),
        Metadata::Xmp(_) => None,
    });
    let from_xmp = || {
        metadata(bytes, format).find_map(|metadata| match metadata {
            Metadata::Xmp(packet) => xmp::orientation(&packet),
            Metadata::Exif(_) => None,
        })
    };
    choose(from_exif, from_xmp)
}

/// What EXIF data says, else what XMP says, as Pillow's `ImageOps.exif_transpose` does; a value that does not exist turns nothing.
pub(crate) fn choose(exif: Option<f64>, xmp: impl FnOnce() -> Option<u16>) -> Orientation {
    // A cast saturates, so that nothing but 1 to 8 becomes one of these.
    let value = exif.or_else(|| xmp().map(f64::from)).filter(|value| value.fract() == 0.0);
    value.and_then(|value| Orientation::from_exif(value as u8)).unwrap_or(Orientation::NoTransforms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Page, exif::tests::exif, png::tests::chunk};
    use image::{RgbImage, codecs::jpeg::JpegEncoder};
    use std::io::Cursor;

    /// The type SHORT.
    const SHORT: u16 = 3;

    fn exif_of(value: u8) -> Vec<u8> {
        exif(true, exif::ORIENTATION, SHORT, &[0, value])
    }

    fn xmp_of(value: u8) -> Vec<u8> {
        format!("<d xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='{value}'/>").into_bytes()
    }

    /// A picture of 3 x 2 pixels, which stands 2 x 3 where it was turned.
    fn picture(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(3, 2, image::Rgb([9; 3])).write_to(&mut bytes, format).expect("encoding to memory");
        bytes.into_inner()
    }

    fn turned(bytes: &[u8]) -> bool {
        let page = Page::from_bytes(bytes).expect("a picture");
        (page.width(), page.height()) == (2, 3)
    }

    fn inserted(bytes: &[u8], at: usize, parts: &[&[u8]]) -> Vec<u8> {
        [&bytes[..at], &parts.concat(), &bytes[at..]].concat()
    }

    fn jpeg(parts: &[&[u8]]) -> Vec<u8> {
        let segment = |part: &&[u8]| [&[0xFF, 0xE1], (part.len() as u16 + 2).to_be_bytes().as_slice(), *part].concat();
        inserted(&picture(ImageFormat::Jpeg), 2, &[&parts.iter().flat_map(segment).collect::<Vec<u8>>()])
    }

    fn jpeg_of(exif: Option<u8>, xmp: Option<u8>) -> Vec<u8> {
        let exif = exif.map(|value| [b"Exif\0\0".as_slice(), &exif_of(value)].concat());
        let xmp = xmp.map(|value| [b"http://ns.adobe.com/xap/1.0/\0".as_slice(), &xmp_of(value)].concat());
        let parts: Vec<Vec<u8>> = [xmp, exif].into_iter().flatten().collect();
        jpeg(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn exif_wins_over_xmp_where_both_are_there() {
        for (exif, xmp, expected) in [
            (None, None, false),
            (Some(6), None, true),
            (None, Some(6), true),
            (Some(6), Some(1), true),
            (Some(1), Some(6), false),
            (Some(0), Some(6), false),
            (Some(9), None, false),
            (None, Some(9), false),
        ] {
            assert_eq!(turned(&jpeg_of(exif, xmp)), expected, "EXIF {exif:?}, XMP {xmp:?}");
        }
    }

    #[test]
    fn a_long_orientation_turns_the_page() {
        for (big_endian, value) in [(true, [0, 0, 0, 6]), (false, [6, 0, 0, 0])] {
            let data = exif(big_endian, exif::ORIENTATION, 4, &value);
            assert!(turned(&jpeg(&[&[b"Exif\0\0".as_slice(), &data].concat()])), "big-endian: {big_endian}");
        }
    }

    #[test]
    fn broken_exif_is_ignored_and_the_next_is_read() {
        let good = [b"Exif\0\0".as_slice(), &exif_of(6)].concat();
        assert!(turned(&jpeg(&[b"Exif\0\0II*\0\xFF\xFF\xFF\xFF", b"Exif\0\0", &good])));
        assert!(!turned(&jpeg(&[&good[..good.len() - 12]])));
    }

    #[test]
    fn png_metadata_counts_before_and_behind_the_pixels() {
        let png = picture(ImageFormat::Png);
        let [behind_header, behind_pixels] = [33, png.len() - 12];
        let hex: String = exif_of(6).iter().map(|byte| format!("{byte:02x}")).collect();
        let raw = format!("Raw profile type exif\0\nexif\n  {}\n{hex}\n", hex.len() / 2);
        let packet = [b"XML:com.adobe.xmp\0\0\0\0\0".as_slice(), &xmp_of(6)].concat();
        for at in [behind_header, behind_pixels] {
            for chunk in [chunk(b"eXIf", &exif_of(6)), chunk(b"tEXt", raw.as_bytes()), chunk(b"iTXt", &packet)] {
                assert!(turned(&inserted(&png, at, &[&chunk])), "{at}: {}", chunk.escape_ascii());
            }
        }
        assert!(!turned(&inserted(&png, behind_header, &[&chunk(b"iTXt", &packet), &chunk(b"eXIf", &exif_of(1))])));
    }

    #[test]
    fn webp_metadata_counts_without_flags_in_the_header() {
        let webp = picture(ImageFormat::WebP);
        let riff = |kind: &[u8; 4], data: &[u8]| {
            [kind.as_slice(), &(data.len() as u32).to_le_bytes(), data, &[0][..data.len() & 1]].concat()
        };
        // No flag is set; the canvas is 3 x 2.
        let extended = riff(b"VP8X", &[0, 0, 0, 0, 2, 0, 0, 1, 0, 0]);
        for part in [riff(b"EXIF", &exif_of(6)), riff(b"XMP ", &xmp_of(6))] {
            let body = [b"WEBP", extended.as_slice(), &webp[12..], &part].concat();
            assert!(turned(&riff(b"RIFF", &body)), "{}", part.escape_ascii());
        }
    }

    #[test]
    fn tiff_and_gif_may_have_xmp() {
        let gif = picture(ImageFormat::Gif);
        // What follows the packet makes sub-blocks of any of its bytes end: XMP Specification Part 3, section 1.1.2.
        let trailer: Vec<u8> = [1].into_iter().chain((0..=255).rev()).chain([0]).collect();
        let screen = 13 + (3 << ((gif[10] & 7) + 1));
        let parts = [b"\x21\xFF\x0BXMP DataXMP".as_slice(), &xmp_of(6), &trailer];
        let found = inserted(&gif, if gif[10] & 0x80 == 0 { 13 } else { screen }, &parts);
        assert!(turned(&found));

        let mut tiff = picture(ImageFormat::Tiff);
        let (packet, start) = (xmp_of(6), tiff.len() as u32);
        tiff.extend(&packet);
        // The directory is copied behind the packet, with one entry more.
        let directory = u32::from_le_bytes(*tiff[4..].first_chunk().expect("an offset")) as usize;
        let count = usize::from(u16::from_le_bytes(*tiff[directory..].first_chunk().expect("a count")));
        let entries = tiff[directory + 2..directory + 2 + 12 * count].to_vec();
        tiff.resize(tiff.len().next_multiple_of(2), 0);
        let place = (tiff.len() as u32).to_le_bytes();
        tiff[4..8].copy_from_slice(&place);
        tiff.extend((count as u16 + 1).to_le_bytes());
        tiff.extend(entries);
        tiff.extend([&700u16.to_le_bytes()[..], &1u16.to_le_bytes(), &(packet.len() as u32).to_le_bytes()].concat());
        tiff.extend([start.to_le_bytes(), [0; 4]].concat());
        assert!(turned(&tiff));
    }

    #[test]
    fn all_eight_orientations_stand_upright() {
        let upright = RgbImage::from_fn(16, 24, |x, y| image::Rgb([(x / 8 * 90 + y / 8 * 60) as u8; 3]));
        for value in 1..=8u8 {
            // Turned the other way, then encoded.
            let back = [1, 2, 3, 4, 5, 8, 7, 6][usize::from(value) - 1];
            let mut stored = image::DynamicImage::from(upright.clone());
            stored.apply_orientation(Orientation::from_exif(back).expect("1 to 8"));
            let mut bytes = Vec::new();
            JpegEncoder::new_with_quality(&mut bytes, 100).encode_image(&stored.to_rgb8()).expect("encoding to memory");
            let data = [b"Exif\0\0".as_slice(), &exif_of(value)].concat();
            let length = (data.len() as u16 + 2).to_be_bytes();
            let page = Page::from_bytes(&inserted(&bytes, 2, &[&[0xFF, 0xE1], &length, &data])).expect("a picture");
            assert_eq!(page.rgb().dimensions(), upright.dimensions(), "{value}");
            let far = page.rgb().as_raw().iter().zip(upright.as_raw()).any(|(a, b)| a.abs_diff(*b) > 8);
            assert!(!far, "{value}");
        }
    }
}
