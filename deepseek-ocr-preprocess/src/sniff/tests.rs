use crate::{Page, exif};
use deepseek_ocr_core::Error;
use proptest::prelude::*;

fn found(bytes: &[u8]) -> String {
    match Page::from_bytes(bytes) {
        Err(Error::NotAnImage { found }) => found,
        other => panic!("{other:?} of {}", bytes.escape_ascii()),
    }
}

/// A file of ISO boxes whose first one has these brands.
fn boxes(brands: &[&[u8; 4]]) -> Vec<u8> {
    let length = 8 + 4 * brands.len() as u32;
    let brands: Vec<u8> = brands.iter().copied().flatten().copied().collect();
    [&length.to_be_bytes()[..], b"ftyp", &brands, b"\0\0\0\x08meta"].concat()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    [b"\x1F\x8B\x08\x08\0\0\0\0\0\x03name.svg\0", miniz_oxide::deflate::compress_to_vec(data, 6).as_slice()].concat()
}

#[test]
fn images_in_other_formats_are_named() {
    let tga: [u8; 20] = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 5, 0, 24, 0, 9, 9];
    let mut rle_tga = tga;
    rle_tga[2] = 10;
    let emf = [[1, 0, 0, 0].as_slice(), &[7; 36], b" EMF"].concat();
    for (bytes, name) in [
        (boxes(&[b"heic", b"\0\0\0\0", b"mif1", b"heic"]), "HEIC"),
        (boxes(&[b"mif1", b"\0\0\0\0", b"heic"]), "HEIC"),
        (boxes(&[b"mif1", b"\0\0\0\0", b"miaf"]), "HEIF"),
        (boxes(&[b"mif1", b"\0\0\0\0", b"avif"]), "AVIF"),
        (boxes(&[b"avif", b"\0\0\0\0"]), "AVIF"),
        (boxes(&[b"crx ", b"\0\0\0\x01"]), "raw photo (CR3)"),
        (boxes(&[b"isom", b"\0\0\x02\0", b"mp41"]), "MP4"),
        (boxes(&[b"qt  ", b"\0\0\x02\0"]), "QuickTime"),
        (b"\0\0\0\x0CJXL \r\n\x87\n\0\0\0\x14ftypjxl ".to_vec(), "JPEG XL"),
        (b"\xFF\x0A\xFA\x7F\x01".to_vec(), "JPEG XL"),
        (b"\0\0\0\x0CjP  \r\n\x87\n\0\0\0\x14ftypjp2 ".to_vec(), "JPEG 2000"),
        (b"\xFF\x4F\xFF\x51\0\x2F".to_vec(), "JPEG 2000"),
        (b"8BPS\0\x01".to_vec(), "Photoshop"),
        (b"AT&TFORM\0\0\0\x42DJVU".to_vec(), "DjVu"),
        (b"\x76\x2F\x31\x01\x02\0\0\0".to_vec(), "OpenEXR"),
        (b"qoif\0\0\0\x07".to_vec(), "QOI"),
        (b"DDS \x7C\0\0\0".to_vec(), "DDS"),
        (b"\xD7\xCD\xC6\x9A\0\0".to_vec(), "WMF"),
        (b"gimp xcf v011\0".to_vec(), "XCF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n".to_vec(), "PostScript"),
        (b"\xC5\xD0\xD3\xC6\x20\0\0\0".to_vec(), "EPS"),
        (b"\0\0\x02\0\x01\0\x20\x20".to_vec(), "CUR"),
        (tga.to_vec(), "TGA"),
        (rle_tga.to_vec(), "TGA"),
        (emf, "EMF"),
        (b"RIFF\x24\0\0\0AVI LIST".to_vec(), "AVI"),
    ] {
        let found = found(&bytes);
        assert!(found.contains(name) && found.ends_with(')'), "{name}: {found}");
    }
}

#[test]
fn documents_and_archives_are_named() {
    let zip = |name: &[u8]| [b"PK\x03\x04\x14\0\0\0\x08\0[Content_Types].xml".as_slice(), &[9; 3000], name].concat();
    for (bytes, name) in [
        (b"%PDF-1.7\n%\xE2\xE3".to_vec(), "PDF"),
        ([b"\xEF\xBB\xBF\n".as_slice(), &[b'x'; 500], b"%PDF-1.4"].concat(), "PDF"),
        (zip(b"word/document.xml"), "Word"),
        (zip(b"xl/workbook.xml"), "Excel"),
        (zip(b"ppt/presentation.xml"), "PowerPoint"),
        (zip(b"a.txt"), "ZIP"),
        (gzip(b"\0\x01\x02"), "gzip"),
        (gzip(b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>"), "SVG"),
        (gzip(b"%PDF-1.7\n%\xE2\xE3\xCF\xD3\0\0\0"), "PDF"),
        (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1".to_vec(), "Office"),
    ] {
        let found = found(&bytes);
        assert!(found.contains(name), "{name}: {found}");
    }
}

#[test]
fn texts_are_told_apart() {
    let wide: Vec<u8> = "\u{feff}<!DOCTYPE html>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, name) in [
        (b"".as_slice(), "empty file (0 bytes)"),
        (b"BMW sold more cars than ever in 1994, as we hear", "plain text"),
        (b"P1 is urgent, P2 is not", "plain text"),
        (b"\x00", "1 byte,"),
        (b"\n\n<!DOCTYPE html><p>No", "HTML"),
        (b"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<HTML>", "HTML"),
        (&wide, "HTML"),
        (b"<!-- made by hand -->\n<svg width='1'/>", "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied", "XML"),
        (b"{\"error\": \"not found\"}", "JSON"),
        (b" [1, 2]", "JSON"),
        (b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUg", "data URL (decode the base64"),
        (b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB\nCAYAAAAfFcSJ", "base64 text of a PNG image"),
        (b"/9j/4AAQSkZJRgABAQEASABIAAD", "base64 text of a JPEG image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "git lfs pull"),
        (b"https://example.org/a.png\n", "address"),
        (b"a text file", "plain text"),
        (b"Gr\xFC\xDFe aus K\xF6ln, in einem alten Zeichensatz geschrieben", "plain text"),
        (b"\x01\x02\x03\xFF", "4 bytes"),
        (b"\xFF\xD8", "2 bytes"),
        (&[0; 40], "zero bytes only"),
        (&[0x80, 0x01, 0xFE, 0x03, 0x99, 0x99, 0x98, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7], "no known format"),
    ] {
        let found = found(bytes);
        assert!(found.contains(name), "{name}: {found}");
    }
}

#[test]
fn images_behind_other_bytes_and_changed_ones_are_named() {
    for (bytes, name) in [
        (b"\xEF\xBB\xBF\xFF\xD8\xFF\xE0\0\x10JFIF".as_slice(), "a JPEG image behind 3 other bytes"),
        (b"\r\n\r\n\x89PNG\r\n\x1A\n\0\0\0\x0DIHDR", "a PNG image behind 4 other bytes"),
        (b"HTTP/1.1 200 OK\r\n\r\nGIF89a\x01\0\x01\0", "a GIF image behind 19 other bytes"),
        (b"\n\nRIFF\x24\0\0\0WEBPVP8L", "a WebP image behind 2 other bytes"),
        (b"\x89PNG\n\x1A\n\0\0\0\x0DIHDR", "line ends"),
        (b"\xEF\xBF\xBDPNG\r\n\x1A\n\0\0\0\x0DIHDR", "decoded as text"),
    ] {
        let found = found(bytes);
        assert!(found.contains(name), "{name}: {found}");
    }
}

#[test]
fn raw_photos_are_not_read_as_their_previews() {
    let dng = exif::tests::exif(false, exif::DNG_VERSION, 1, &[1, 4, 0, 0]);
    let mut cr2 = exif::tests::exif(false, exif::ORIENTATION, 3, &[1, 0]);
    cr2[8..12].copy_from_slice(b"CR\x02\0");
    // Three entries: a preview, its maker, and the directories of the photo itself.
    let mut nef = b"MM\0*\0\0\0\x08\0\x03".to_vec();
    nef.extend(
        b"\0\xFE\0\x04\0\0\0\x01\0\0\0\x01\x01\x0F\0\x02\0\0\0\x04NIK\0\x01\x4A\0\x04\0\0\0\x01\0\0\0\x40\0\0\0\0",
    );
    for (bytes, name) in [(dng, "DNG"), (cr2, "CR2"), (nef, "camera's raw photo")] {
        let found = found(&bytes);
        assert!(found.contains(name), "{name}: {found}");
    }
}

proptest! {
    #[test]
    fn any_bytes_have_a_name(bytes in prop::collection::vec(any::<u8>(), 0..80), magic in 0..super::SIGNATURES.len() + 4) {
        let more: [&[u8]; 4] = [b"", b"PK\x03\x04", b"\x1F\x8B\x08\x0C", b"\0\0\0\x18ftyp"];
        let start = super::SIGNATURES.get(magic).map_or_else(|| more[magic - super::SIGNATURES.len()], |signature| signature.0);
        prop_assert!(!super::found(&[start, &bytes].concat()).is_empty());
    }
}
