//! Files of all kinds against the pixels that libtiff and Pillow show; how they are made: `tests/data/tiff/README.md`.

use super::directory::tag;
use crate::{Alpha, Damage, Page, PageWarning};
use deepseek_ocr_core::Error;
use image::RgbImage;
use proptest::prelude::*;
use std::{fs, path::PathBuf, sync::LazyLock, time::Instant};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tiff"))
}

fn data(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).expect("a file of the tests")
}

fn expected(name: &str) -> RgbImage {
    image::load_from_memory(&data(name)).expect("a picture of the tests").into_rgb8()
}

/// The TIFF files with one page: `PICTURE.KIND.tif`, whose pixels are those of `PICTURE.png`.
static FILES: LazyLock<Vec<(String, Vec<u8>)>> = LazyLock::new(|| {
    let names =
        fs::read_dir(folder()).expect("the folder of the tests").map(|entry| entry.expect("a file").file_name());
    let names = names.map(|name| name.into_string().expect("a plain name"));
    names.filter(|name| name.ends_with(".tif") && name != "pages.tif").map(|name| (name.clone(), data(&name))).collect()
});

/// Mean distance of a sample to the one that is right.
fn distance(found: &RgbImage, right: &RgbImage) -> f64 {
    assert_eq!(found.dimensions(), right.dimensions());
    let total: u64 = found.as_raw().iter().zip(right.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    total as f64 / right.as_raw().len() as f64
}

/// The file with another value of a tag of one whole number, which its first directory holds.
fn with(mut bytes: Vec<u8>, tag: u16, value: u32) -> Vec<u8> {
    assert!(bytes.starts_with(b"II*\0"), "a little-endian file");
    let number = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().expect("inside"));
    let start = number(4) as usize;
    let count = number(start) as usize & 0xFFFF;
    let entry = |i: usize| start + 2 + 12 * i;
    let at = (0..count).map(entry).find(|&at| number(at) as u16 == tag).expect("the tag is there");
    // A LONG whatever it was before.
    bytes[at + 2..at + 8].copy_from_slice(&[4, 0, 1, 0, 0, 0]);
    bytes[at + 8..at + 12].copy_from_slice(&value.to_le_bytes());
    bytes
}

#[test]
fn every_kind_gives_the_pixels_that_libtiff_shows() {
    for (name, bytes) in FILES.iter() {
        let page = Page::from_bytes(bytes).unwrap_or_else(|error| panic!("{name}: {error} {error:?}"));
        assert!(page.warnings().is_empty(), "{name}: {page:?}");
        let right = expected(&format!("{}.png", name.split('.').next().expect("a picture")));
        // Decoders of JPEG round differently, and the more so where colours are subsampled.
        let most = match name {
            name if !name.contains(".jpeg.") => 0.0,
            name if name.contains("ycbcr2") || name.contains("ycbcr4") => 3.0,
            _ => 1.0,
        };
        let found = distance(page.rgb(), &right);
        assert!(found <= most, "{name}: {found}");
    }
    assert!(FILES.len() > 80);
}

#[test]
fn reduced_copies_and_masks_are_no_pages() {
    let bytes = data("pages.tif");
    assert_eq!(Page::count(&bytes).expect("a TIFF"), 4);
    let first = Page::from_bytes(&bytes).expect("the first page");
    assert_eq!(first.warnings(), [PageWarning::MoreFrames { frames: 4 }]);
    let sizes = [(37, 29), (13, 10), (37, 29), (37, 29)];
    for (number, size) in sizes.into_iter().enumerate() {
        let page = Page::reader().with_page(number).from_bytes(&bytes).expect("a page");
        assert_eq!((page.width(), page.height()), size, "page {number}");
        assert_eq!(page.warnings().is_empty(), number > 0);
    }
    for (number, picture) in [(0, "rgb.png"), (2, "grey.png"), (3, "bw.png")] {
        let page = Page::reader().with_page(number).from_bytes(&bytes).expect("a page");
        assert_eq!(page.rgb(), &expected(picture), "page {number}");
    }
}

#[test]
fn frames_of_animations_are_those_that_pillow_shows() {
    for name in ["animation.gif", "animation.webp", "animation.png", "animation.apart.png"] {
        let bytes = data(name);
        assert_eq!(Page::count(&bytes).expect("an animation"), 3, "{name}");
        for number in 0..3 {
            let page = Page::reader().with_page(number).from_bytes(&bytes).expect("a frame");
            let distance = distance(page.rgb(), &expected(&format!("{name}.{number}.png")));
            assert_eq!(distance, 0.0, "{name}, {number}");
            assert_eq!(page.warnings().is_empty(), number > 0, "{name}, {number}");
        }
    }
}

#[test]
fn a_page_that_is_not_there_is_an_invalid_request() {
    for (name, count) in [("pages.tif", 4), ("animation.gif", 3), ("animation.png", 3), ("rgb.png", 1)] {
        let found = Page::reader().with_page(count).from_bytes(&data(name));
        assert!(matches!(found, Err(Error::InvalidRequest { field: "page", .. })), "{name}: {found:?}");
    }
}

#[test]
fn what_is_not_read_is_named() {
    for (file, tag, value, feature) in [
        ("rgb.none.tif", tag::COMPRESSION, 6, "old-style JPEG compression"),
        ("rgb.none.tif", tag::COMPRESSION, 34661, "JBIG compression"),
        ("rgb.none.tif", tag::COMPRESSION, 34712, "JPEG 2000 compression"),
        ("rgb.none.tif", tag::COMPRESSION, 34925, "LZMA compression"),
        ("rgb.none.tif", tag::COMPRESSION, 50000, "Zstandard compression"),
        ("rgb.none.tif", tag::COMPRESSION, 50001, "WebP compression"),
        ("rgb.none.tif", tag::COMPRESSION, 4, "3 samples of 8 bits with this compression"),
        ("rgb.none.tif", tag::COMPRESSION, 12345, "compression 12345"),
        ("rgb.none.tif", tag::PHOTOMETRIC, 8, "CIELab as photometric interpretation"),
        ("rgb.none.tif", tag::PHOTOMETRIC, 32845, "LogLuv as photometric interpretation"),
        ("grey4.plain.tif", tag::PHOTOMETRIC, 4, "transparency mask as photometric interpretation"),
        ("grey4.plain.tif", tag::PHOTOMETRIC, 2, "RGB with 1 samples"),
        ("grey4.plain.tif", tag::PHOTOMETRIC, 6, ""),
        ("grey.float-255.tif", tag::SAMPLE_FORMAT, 2, "signed numbers as samples"),
        ("grey.float-255.tif", tag::SAMPLE_FORMAT, 1, "whole numbers of 32 bits as samples"),
        ("rgb.lzw-predictor2.tif", tag::COMPRESSION, 32773, "predictor 2 with PackBits compression"),
        ("rgb.lzw-predictor2.tif", tag::PREDICTOR, 3, "predictor 3 over samples of 8 bits"),
        ("ycbcr22.plain.tif", tag::YCBCR_SUBSAMPLING, 3, "YCbCr subsampling of [3]"),
    ] {
        let found = Page::from_bytes(&with(data(file), tag, value));
        match found {
            Err(Error::ImageUnsupported { format: "TIFF", feature: named }) => assert_eq!(named, feature, "{file}"),
            // Grey that calls itself YCbCr is grey.
            found => assert!(feature.is_empty() && found.is_ok(), "{file}, {feature}: {found:?}"),
        }
    }
}

#[test]
fn associated_alpha_is_taken_back_where_alpha_is_dropped() {
    // A pixel of 100, 50 and 0 under an alpha of 128; what is left of the colours is twice as much.
    let mut bytes = with(with(data("associated.plain.tif"), tag::IMAGE_WIDTH, 1), tag::IMAGE_LENGTH, 1);
    bytes[8..12].copy_from_slice(&[100, 50, 0, 128]);
    let dropped = Page::reader().with_alpha(Alpha::Drop).from_bytes(&bytes).expect("a pixel");
    assert_eq!(dropped.rgb().as_raw(), &[199, 100, 0]);
    assert_eq!(Page::from_bytes(&bytes).expect("a pixel").rgb().as_raw(), &[227, 177, 127]);
}

#[test]
fn each_page_is_turned_by_its_own_orientation() {
    let upright = expected("rgb.png");
    for (value, turned) in
        [(3, image::imageops::rotate180(&upright)), (6, image::imageops::rotate90(&upright)), (77, upright.clone())]
    {
        let page = Page::from_bytes(&with(data("rgb.none.tif"), tag::ORIENTATION, value)).expect("a page");
        assert_eq!(page.rgb(), &turned, "{value}");
    }
}

#[test]
fn bits_without_a_photometric_interpretation_are_white_at_one_but_in_faxes() {
    // An unknown tag in its place.
    let without = |name: &str| {
        let mut bytes = data(name);
        let start = u32::from_le_bytes(*bytes[4..].first_chunk().expect("inside")) as usize;
        let entries = bytes[start + 2..].chunks_exact_mut(12);
        let entry = { entries }.find(|entry| entry[..2] == tag::PHOTOMETRIC.to_le_bytes()).expect("the tag is there");
        entry[..2].copy_from_slice(&[0xFF, 0xFF]);
        Page::from_bytes(&bytes).expect("a page")
    };
    assert_eq!(without("bw.none-msb2lsb.tif").rgb(), &expected("bw.png"));
    assert_eq!(without("bw.g4-miniswhite.tif").rgb(), &expected("bw.png"));
}

#[test]
fn a_chain_of_pages_that_breaks_off_is_a_warning() {
    let mut bytes = data("rgb.none.tif");
    let start = u32::from_le_bytes(*bytes[4..].first_chunk().expect("inside")) as usize;
    let end = start + 2 + 12 * usize::from(bytes[start]);
    bytes[end..end + 4].copy_from_slice(&[0, 0, 0, 1]);
    let page = Page::from_bytes(&bytes).expect("the first page");
    assert_eq!(page.rgb(), &expected("rgb.png"));
    assert!(matches!(page.warnings(), [PageWarning::Damaged { format: "TIFF", .. }]), "{page:?}");
}

#[test]
fn a_page_below_its_reduced_copy_is_refused_by_name() {
    // As cameras write raw files: the copy in the chain, the page in a directory that the copy names.
    let bytes = with(data("rgb.none.tif"), tag::ORIENTATION, 0);
    let start = u32::from_le_bytes(*bytes[4..].first_chunk().expect("inside")) as usize;
    let renamed = |from: u16, to: u16, value: u32, mut bytes: Vec<u8>| {
        let at =
            (start + 2..).step_by(12).find(|&at| bytes[at..at + 2] == from.to_le_bytes()).expect("the tag is there");
        bytes[at..at + 2].copy_from_slice(&to.to_le_bytes());
        with(bytes, to, value)
    };
    let copy = renamed(tag::ORIENTATION, tag::NEW_SUBFILE_TYPE, 1, bytes);
    assert!(Page::from_bytes(&copy).is_ok(), "nothing else is there");
    let raw = renamed(tag::PLANAR_CONFIGURATION, tag::SUB_IFDS, 8, copy);
    let found = Page::from_bytes(&raw);
    assert!(matches!(found, Err(Error::ImageUnsupported { .. })), "{found:?}");
}

#[test]
fn lzw_from_before_tiff_5_is_read() {
    let packed = weezl::encode::Encoder::new(weezl::BitOrder::Lsb, 8).encode(&[7; 3000]).expect("encoding to memory");
    let extent = super::Extent { columns: 0, rows: 0, bytes: 3000 };
    assert_eq!(super::unpack(&packed, super::Packing::Lzw, extent).expect("LZW"), (vec![7; 3000], None));
}

#[test]
fn pixels_that_are_not_there_are_no_page() {
    // Directories lie behind the pixels, so that the middle of the file is taken out of the strips by shortening them.
    for name in ["rgb.none.tif", "bw.g4-msb2lsb.tif", "grey2.plain.tif", "alpha.unassociated.tif"] {
        let bytes = data(name);
        let beyond = with(bytes.clone(), tag::IMAGE_LENGTH, 29 * 40);
        let found = Page::from_bytes(&beyond);
        assert!(matches!(found, Err(Error::ImageTruncated { .. })), "{name}: {found:?}");
    }
    let found = Page::from_bytes(&with(data("grey-tables.jpeg.tif"), tag::STRIP_OFFSETS, 1 << 30));
    assert!(matches!(found, Err(Error::ImageTruncated { .. })), "{found:?}");
}

#[test]
fn spoiled_fax_rows_are_a_warning() {
    let mut bytes = data("bw.g3-fill-msb2lsb.tif");
    // Within the second strip: the directory lies behind all of them.
    for at in [40, 90, 91] {
        bytes[at] ^= 0x3C;
    }
    let page = Page::from_bytes(&bytes).expect("most of a page");
    assert!(
        matches!(page.warnings(), [PageWarning::Damaged { format: "TIFF", reason }] if reason.contains("fax rows"))
    );
    assert!(distance(page.rgb(), &expected("bw.png")) < 64.0);
    let refused = Page::reader().with_damage(Damage::Refuse).from_bytes(&bytes);
    assert!(matches!(refused, Err(Error::ImageTruncated { .. })));
}

#[test]
fn limits_hold_before_anything_is_decoded() {
    let huge = |tag, value| Page::from_bytes(&with(data("ycbcr11-tiles.jpeg.tif"), tag, value));
    for (tag, value) in [(tag::IMAGE_WIDTH, 1 << 31), (tag::TILE_WIDTH, u32::MAX), (tag::TILE_LENGTH, 1 << 30)] {
        let found = huge(tag, value);
        assert!(matches!(found, Err(Error::ImageTooLarge { .. })), "{tag}: {found:?}");
    }
    let limit = 37 * 29 * 6;
    assert!(Page::reader().with_max_alloc(limit - 1).from_bytes(&data("rgb.lzw.tif")).is_err());
    assert!(Page::reader().with_max_alloc(limit).from_bytes(&data("rgb.lzw.tif")).is_ok());
}

#[test]
fn strips_that_share_much_data_take_no_time() {
    // 8 MB of empty blocks of Deflate, which 20,000 strips of a row refer to.
    let mut bytes = b"II*\0\x08\0\0\0".to_vec();
    let rows = 20_000u32;
    let entries: [(u16, u32); 8] = [(256, 8), (257, rows), (258, 8), (259, 8), (262, 1), (278, 1), (273, 0), (279, 0)];
    let tables = 8 + 2 + 12 * entries.len() as u32 + 4;
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        let (count, value) = match tag {
            273 => (rows, tables),
            279 => (rows, tables + 4 * rows),
            _ => (1, value),
        };
        bytes.extend([tag.to_le_bytes(), 4u16.to_le_bytes()].concat());
        bytes.extend([count.to_le_bytes(), value.to_le_bytes()].concat());
    }
    bytes.extend([0; 4]);
    let length = 8u32 << 20;
    bytes.extend((tables + 8 * rows).to_le_bytes().repeat(rows as usize));
    bytes.extend(length.to_le_bytes().repeat(rows as usize));
    bytes.extend([0x78, 0x9C]);
    bytes.extend([0, 0, 0, 0xFF, 0xFF].repeat(length as usize / 5));
    let started = Instant::now();
    let found = Page::from_bytes(&bytes);
    assert!(matches!(found, Err(Error::ImageTruncated { .. })), "{found:?}");
    assert!(started.elapsed().as_secs() < 5);
}

proptest! {
    #[test]
    fn damaged_files_get_an_answer(
        file in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        keep in any::<prop::sample::Index>(),
    ) {
        let (_, mut bytes) = FILES[file.index(FILES.len())].clone();
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - keep.index(bytes.len()) / 8);
        let _ = Page::reader().with_max_alloc(1 << 24).from_bytes(&bytes);
    }
}
