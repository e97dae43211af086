//! Files as scanners, phones and other programs write them: each is a page with the right pixels, or an error that names what it is.

use deepseek_ocr_core::Error;
use deepseek_ocr_preprocess::{Damage, Page, PageWarning, image};
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/real").join(name)
}

/// The pixels beside the file, which libjpeg, libtiff or a person sees.
fn expected(name: &str) -> image::RgbImage {
    image::open(path(&format!("{name}.expected.png"))).unwrap().into_rgb8()
}

/// The page in a file, whose pixels must be the expected ones.
fn right_page(name: &str) -> Page {
    let page = Page::open(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_pixels(name, &page);
    page
}

fn assert_pixels(name: &str, page: &Page) {
    let expected = expected(name);
    assert_eq!((page.width(), page.height()), expected.dimensions(), "{name}");
    let total: u64 = page.rgb().as_raw().iter().zip(expected.as_raw()).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mean = total as f64 / expected.as_raw().len() as f64;
    // Beside these two lies the picture that was coded, with its colours at full resolution, not what libjpeg decodes.
    let coded = ["04-height-in-dnl.jpg", "09-ycbcr-2x2.tif"].contains(&name);
    assert!(mean <= if coded { 1.1 } else { 0.0 }, "{name}: {mean}");
}

#[track_caller]
fn assert_silent(name: &str) {
    assert_eq!(right_page(name).warnings(), [], "{name}");
}

#[test]
fn a_jpeg_with_a_scan_for_each_component_is_right() {
    assert_silent("01-420-197x131.jpg");
    assert_silent("01-440-72x40.jpg");
}

#[test]
fn a_jpeg_whose_chroma_is_finer_than_its_luma_is_right() {
    assert_silent("03-chroma-finer-than-luma.jpg");
}

#[test]
fn a_jpeg_without_tables_of_codes_is_read() {
    assert_silent("04-bare.jpg");
}

#[test]
fn a_jpeg_with_its_height_behind_the_scan_is_read() {
    assert_silent("04-height-in-dnl.jpg");
}

#[test]
fn a_long_orientation_turns_the_page() {
    assert_silent("05-type-long.jpg");
}

#[test]
fn an_orientation_in_xmp_turns_the_page() {
    assert_silent("06-attribute-6.png");
    assert_silent("06-attribute-6.jpg");
}

#[test]
fn an_orientation_in_exif_wins_over_xmp() {
    assert_silent("06-exif-1-wins-over-xmp-6.jpg");
}

#[test]
fn exif_behind_the_pixels_turns_the_page() {
    assert_silent("07-exif6-behind.png");
}

#[test]
fn a_png_without_its_end_is_a_page_with_a_warning() {
    let name = "08-no-iend.png";
    assert!(matches!(right_page(name).warnings(), [PageWarning::EndMissing { format: "PNG" }]));
    let refused = Page::reader().with_damage(Damage::Refuse).open(path(name));
    assert!(matches!(refused, Err(Error::ImageTruncated { format: "PNG", .. })));
}

#[test]
fn a_scan_in_jpeg_within_tiff_is_read() {
    assert_silent("09-ycbcr-2x2.tif");
}

#[test]
fn a_thumbnail_is_no_page_of_a_tiff() {
    assert_silent("10-thumbnail-first.tif");
}

#[test]
fn every_page_of_a_fax_is_reached() {
    let name = "10-three-fax-pages.tif";
    let warnings = right_page(name).warnings().to_vec();
    assert!(matches!(warnings.as_slice(), [PageWarning::MoreFrames { frames: 3 }]), "{warnings:?}");
    let pages: Vec<Page> = (0..3).map(|page| Page::reader().with_page(page).open(path(name)).unwrap()).collect();
    assert!(pages[0].rgb() != pages[1].rgb() && pages[1].rgb() != pages[2].rgb());
    let beyond = Page::reader().with_page(3).open(path(name));
    assert!(matches!(beyond, Err(Error::InvalidRequest { field: "page", .. })), "{beyond:?}");
}

#[test]
fn bits_in_either_order_are_read() {
    assert_silent("11-raw-lsb-first.tif");
}

#[test]
fn a_fax_of_group_3_is_read() {
    assert_silent("11-group3-minisblack.tif");
}

#[test]
fn grey_of_four_bits_and_planes_of_ink_are_read() {
    assert_silent("12-grey4.tif");
    assert_silent("12-cmyk-planes.tif");
}

#[test]
fn a_bitmap_whose_alpha_is_zero_everywhere_is_opaque() {
    let page = Page::open(path("13-v4-bitfields-alpha-mask.bmp")).unwrap();
    let colours: std::collections::HashSet<_> = page.rgb().pixels().collect();
    assert!(colours.len() > 100, "{} colours", colours.len());
}

#[test]
fn white_text_on_nothing_is_seen() {
    let page = Page::open(path("16-white-text.png")).unwrap();
    let colours: std::collections::HashSet<_> = page.rgb().pixels().collect();
    assert!(colours.len() > 1, "a blank page: {:?}", page.warnings());
}

#[test]
fn what_is_no_image_is_named() {
    for (name, found) in [("14-iphone.jpg", "HEI"), ("14-scan.jp2", "JPEG 2000"), ("14-page.html", "HTML")] {
        let error = Page::open(path(name)).unwrap_err();
        assert!(matches!(&error, Error::NotAnImage { found: text } if text.contains(found)), "{name}: {error}");
    }
}
