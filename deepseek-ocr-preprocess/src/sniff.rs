//! What a file is that is no image to us, and what to do about it: for messages.

mod text;

use crate::exif::{DNG_VERSION, Directory, MAKE, NEW_SUBFILE_TYPE, SUB_DIRECTORIES};

/// What to do with an image in another format, a raw photo, a document, an archive.
const CONVERT: &str = "convert it to PNG or JPEG";
const DEVELOP: &str = "develop it to JPEG or PNG";
const RENDER: &str = "render its pages to PNG";
const UNPACK: &str = "unpack it first";
const FRAME: &str = "extract a frame as PNG or JPEG";

/// Bytes at the start that are searched for what may stand behind something else, as readers of PDF do.
const WINDOW: usize = 1024;

/// Bytes at the end of a ZIP file that are searched for names.
const TAIL: usize = 64 << 10;

/// `(bytes at the start, what has them, what to do)`.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (b"\0\0\0\x0CjP  \r\n\x87\n", "a JPEG 2000 image", CONVERT),
    (b"\xFF\x4F\xFF\x51", "a JPEG 2000 codestream", CONVERT),
    (b"\0\0\0\x0CJXL \r\n\x87\n", "a JPEG XL image", CONVERT),
    (b"\xFF\x0A", "a JPEG XL codestream", CONVERT),
    (b"8BPS", "a Photoshop document (PSD)", CONVERT),
    (b"AT&TFORM", "a DjVu document", RENDER),
    (b"%!PS", "a PostScript document", RENDER),
    (b"\xC5\xD0\xD3\xC6", "an EPS drawing", CONVERT),
    (b"gimp xcf", "a GIMP document (XCF)", CONVERT),
    (b"\x76\x2F\x31\x01", "an OpenEXR image", CONVERT),
    (b"#?RADIANCE", "a Radiance HDR image", CONVERT),
    (b"#?RGBE", "a Radiance HDR image", CONVERT),
    (b"qoif", "a QOI image", CONVERT),
    (b"DDS ", "a DDS texture", CONVERT),
    (b"farbfeld", "a farbfeld image", CONVERT),
    (b"\xD7\xCD\xC6\x9A", "a Windows metafile (WMF)", CONVERT),
    (b"BPG\xFB", "a BPG image", CONVERT),
    (b"\x97JB2\r\n\x1A\n", "a JBIG2 image", CONVERT),
    (b"\x8AMNG\r\n\x1A\n", "an MNG animation", FRAME),
    (b"icns", "a macOS icon", CONVERT),
    (b"\x59\xA6\x6A\x95", "a Sun raster image", CONVERT),
    (b"\x01\xDA\x01", "an SGI image", CONVERT),
    (b"\x01\xDA\0", "an SGI image", CONVERT),
    (b"PF\n", "a PFM image", CONVERT),
    (b"Pf\n", "a PFM image", CONVERT),
    (b"SIMPLE  =", "a FITS image", CONVERT),
    (b"/* XPM", "an XPM image", CONVERT),
    (b"IIU\0", "a Panasonic raw photo", DEVELOP),
    (b"IIRO", "an Olympus raw photo", DEVELOP),
    (b"IIRS", "an Olympus raw photo", DEVELOP),
    (b"MMOR", "an Olympus raw photo", DEVELOP),
    (b"FUJIFILMCCD-RAW", "a Fujifilm raw photo", DEVELOP),
    (b"\x46OVb", "a Sigma raw photo", DEVELOP),
    (b"\0MRM", "a Minolta raw photo", DEVELOP),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "a Microsoft Office document of the old kind", RENDER),
    (b"{\\rtf", "an RTF document", RENDER),
    (b"\x1A\x45\xDF\xA3", "a Matroska or WebM video", FRAME),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive", UNPACK),
    (b"Rar!\x1A\x07", "a RAR archive", UNPACK),
    (b"\xFD7zXZ\0", "xz-compressed data", UNPACK),
    (b"BZh", "bzip2-compressed data", UNPACK),
    (b"\x28\xB5\x2F\xFD", "zstd-compressed data", UNPACK),
    (b"\0\x05\x16\x07", "a macOS resource file, whose name begins with ._", "take the file without ._ in its name"),
    (b"\x89PNG\n\x1A\n", "a PNG image whose line ends were changed", "transfer it as binary data"),
    (b"\x89PNG\r\n\x1A\r\n", "a PNG image whose line ends were changed", "transfer it as binary data"),
    (b"\xEF\xBF\xBD", "binary data that was decoded as text, which loses it", "read it as bytes"),
    (b"\xC2\x89PNG", "a PNG image that was encoded as text", "read it as bytes"),
    (b"\xC3\xBF\xC3\x98", "a JPEG image that was encoded as text", "read it as bytes"),
];

/// Images that are read, by their first bytes.
const IMAGES: [(&[u8], &str); 5] = [
    (b"\x89PNG\r\n\x1A\n", "a PNG image"),
    (b"\xFF\xD8\xFF", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"RIFF", "a WebP image"),
];

/// What the data is that no decoder takes, as a phrase with what to do in parentheses.
pub(crate) fn found(bytes: &[u8]) -> String {
    let name = |what: &str, remedy: &str| format!("{what} ({remedy})");
    if bytes.is_empty() {
        return "an empty file (0 bytes)".into();
    }
    let signature = SIGNATURES.iter().find(|(magic, ..)| bytes.starts_with(magic));
    if let Some((_, what, remedy)) = signature {
        return name(what, remedy);
    }
    if let Some((what, remedy)) = boxes(bytes).or_else(|| riff(bytes)).or_else(|| zip(bytes)).or_else(|| inner(bytes)) {
        return name(what, remedy);
    }
    if let Some(packed) = gunzip(bytes) {
        let starts = |magic: &[u8]| packed.starts_with(magic);
        return match text::found(&packed) {
            Some(text) => format!("gzip-compressed: {text}"),
            None if starts(b"%PDF") => name("a gzip-compressed PDF document", RENDER),
            None => name("gzip-compressed data", UNPACK),
        };
    }
    if let Some((start, what)) = behind(bytes) {
        return format!("{what} behind {start} other bytes (remove them)");
    }
    if let Some(text) = text::found(bytes) {
        return text;
    }
    if is_tga(bytes) {
        return name("a TGA image", CONVERT);
    }
    match bytes.len() {
        1 => "a file of 1 byte, too short for an image".into(),
        length @ ..16 => format!("a file of {length} bytes, too short for an image"),
        _ if bytes.iter().all(|&byte| byte == 0) => "a file of zero bytes only".into(),
        _ => "binary data in no known format".into(),
    }
}

/// A camera's raw photo in the structure of a TIFF file: what lies there as an image is a preview.
pub(crate) fn raw_photo(bytes: &[u8]) -> Option<String> {
    let directory = Directory::first(bytes)?;
    let preview = || directory.find(NEW_SUBFILE_TYPE)?.number().filter(|value| value % 2.0 == 1.0);
    let others = || directory.find(SUB_DIRECTORIES).and(directory.find(MAKE)).is_some();
    let what = if bytes.get(8..10) == Some(b"CR") {
        "a Canon raw photo (CR2)"
    } else if directory.find(DNG_VERSION).is_some() {
        "a raw photo (DNG)"
    } else if preview().is_some() && others() {
        "a camera's raw photo"
    } else {
        return None;
    };
    Some(format!("{what} ({DEVELOP})"))
}

/// Files of ISO boxes, by the brands of the first one.
fn boxes(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    match bytes.get(4..8)? {
        b"ftyp" => {}
        b"moov" | b"mdat" | b"wide" | b"free" => return Some(("a QuickTime movie", FRAME)),
        _ => return None,
    }
    let brands = || bytes.get(8..length.min(bytes.len())).unwrap_or_default().chunks_exact(4);
    let any = |names: &[&[u8]]| brands().any(|brand| names.contains(&brand));
    let first = |name: &[u8]| brands().next() == Some(name);
    Some(if first(b"crx ") {
        ("a Canon raw photo (CR3)", DEVELOP)
    } else if first(b"jxl ") {
        ("a JPEG XL image", CONVERT)
    } else if first(b"jp2 ") || first(b"jpx ") {
        ("a JPEG 2000 image", CONVERT)
    } else if any(&[b"avif", b"avis"]) {
        ("an AVIF image", CONVERT)
    } else if any(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"]) {
        ("a HEIC image", CONVERT)
    } else if any(&[b"mif1", b"mif2", b"msf1"]) {
        ("a HEIF image", CONVERT)
    } else if first(b"qt  ") {
        ("a QuickTime movie", FRAME)
    } else {
        ("an MP4 video", FRAME)
    })
}

fn riff(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if !bytes.starts_with(b"RIFF") {
        return None;
    }
    match bytes.get(8..12)? {
        b"AVI " => Some(("an AVI video", FRAME)),
        b"WAVE" => Some(("a WAV recording", "it has no picture")),
        _ => None,
    }
}

/// A ZIP file, by the names in it.
fn zip(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    if !bytes.starts_with(b"PK\x03\x04") && !bytes.starts_with(b"PK\x05\x06") {
        return None;
    }
    let (head, tail) = (bytes.get(..WINDOW).unwrap_or(bytes), &bytes[bytes.len().saturating_sub(TAIL)..]);
    let has = |name: &[u8]| position(head, name).or_else(|| position(tail, name)).is_some();
    Some(if has(b"word/document") {
        ("a Word document (DOCX)", RENDER)
    } else if has(b"ppt/") {
        ("a PowerPoint document (PPTX)", RENDER)
    } else if has(b"xl/workbook") {
        ("an Excel document (XLSX)", RENDER)
    } else if has(b"application/vnd.oasis.opendocument") {
        ("an OpenDocument file", RENDER)
    } else if has(b"application/epub+zip") {
        ("an EPUB book", RENDER)
    } else {
        ("a ZIP archive", UNPACK)
    })
}

/// Formats whose mark stands behind the start or at the end.
fn inner(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let at = |start: usize, magic: &[u8]| bytes.get(start..).is_some_and(|rest| rest.starts_with(magic));
    let head = bytes.get(..WINDOW).unwrap_or(bytes);
    Some(match () {
        () if position(head, b"%PDF-").is_some() => ("a PDF document", RENDER),
        () if bytes.starts_with(&[1, 0, 0, 0]) && at(40, b" EMF") => ("a Windows metafile (EMF)", CONVERT),
        () if at(128, b"DICM") => ("a DICOM image", CONVERT),
        () if at(257, b"ustar") => ("a tar archive", UNPACK),
        () if at(6, b"HEAPCCDR") => ("a Canon raw photo (CRW)", DEVELOP),
        // A TGA image begins like that too, but has zeros where a cursor counts its pictures.
        () if bytes.starts_with(b"\0\0\x02\0") && !at(4, b"\0\0") => ("a Windows cursor (CUR)", CONVERT),
        () if bytes.ends_with(b"TRUEVISION-XFILE.\0") => ("a TGA image", CONVERT),
        () if matches!(bytes, [0x0A, 0 | 2..=5, 1, 1 | 2 | 4 | 8, ..]) => ("a PCX image", CONVERT),
        () => return None,
    })
}

/// A TGA image without the mark at its end, by the plausible fields of its header of 18 bytes.
fn is_tga(bytes: &[u8]) -> bool {
    let Some(head) = bytes.first_chunk::<18>() else { return false };
    let [_, map, kind, .., w0, w1, h0, h1, bits, _] = *head;
    let kinds = if map == 0 { [2, 3, 10, 11] } else { [1, 9, 1, 9] };
    map < 2 && kinds.contains(&kind) && [8, 15, 16, 24, 32].contains(&bits) && w0 | w1 > 0 && h0 | h1 > 0
}

/// An image that is read, but not at the start of the data: `(where, what)`.
fn behind(bytes: &[u8]) -> Option<(usize, &'static str)> {
    let head = bytes.get(..WINDOW).unwrap_or(bytes);
    let starts = IMAGES.iter().filter_map(|&(magic, what)| {
        let start = position(head, magic).filter(|&start| start > 0)?;
        (magic != b"RIFF" || bytes.get(start + 8..start + 12) == Some(b"WEBP")).then_some((start, what))
    });
    starts.min_by_key(|&(start, _)| start)
}

/// The first bytes of what gzip-compressed data holds.
fn gunzip(bytes: &[u8]) -> Option<Vec<u8>> {
    const FLAG_EXTRA: u8 = 4;
    const FLAG_NAME: u8 = 8;
    let rest = bytes.strip_prefix(b"\x1F\x8B\x08")?;
    let (&flags, mut rest) = rest.split_first()?;
    rest = rest.get(6..).unwrap_or_default();
    if flags & FLAG_EXTRA != 0 {
        let length = rest.first_chunk().map_or(0, |&length| usize::from(u16::from_le_bytes(length)));
        rest = rest.get(2 + length..).unwrap_or_default();
    }
    if flags & FLAG_NAME != 0 {
        rest = rest.iter().position(|&byte| byte == 0).map_or(&[], |end| &rest[end + 1..]);
    }
    let inflated = miniz_oxide::inflate::decompress_to_vec_with_limit(rest, 4 * WINDOW);
    Some(inflated.unwrap_or_else(|stopped| stopped.output))
}

fn position(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests;
