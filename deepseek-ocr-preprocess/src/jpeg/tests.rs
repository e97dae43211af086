use super::*;
use image::{GrayImage, RgbImage, codecs::jpeg::JpegEncoder};
use proptest::prelude::*;
use safetensors::SafeTensors;

/// JPEGs of every layout with libjpeg-turbo's pixels; see `tests/data/jpeg/generate.py`.
const FAMILY: &[u8] = include_bytes!("../../tests/data/jpeg/family.safetensors");

fn family() -> Vec<(String, Vec<u8>, Vec<u8>)> {
    let family = SafeTensors::deserialize(FAMILY).expect("a safetensors file");
    let bytes = |name: &str| family.tensor(name).expect("a pair of tensors").data().to_vec();
    let names = family.names().into_iter().filter(|name| !name.ends_with(".rgb"));
    names.map(|name| (name.to_owned(), bytes(name), bytes(&format!("{name}.rgb")))).collect()
}

fn encoded(width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 9) as u8, (y * 5) as u8, (x * y) as u8]));
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, 80).encode_image(&image).expect("encoding to memory");
    bytes
}

fn decoded(bytes: &[u8]) -> Picture {
    Jpeg::open(bytes).and_then(Jpeg::decode).expect("a picture")
}

fn pixels(picture: &Picture) -> Vec<u8> {
    picture.rgb()
}

fn is_whole(picture: &Picture) -> bool {
    picture.damage.is_none() && !picture.end_missing
}

/// The position of the first marker of a kind.
fn find(bytes: &[u8], marker: u8) -> usize {
    bytes.windows(2).position(|pair| pair == [0xFF, marker]).expect("the marker is there")
}

#[test]
fn every_layout_has_the_pixels_of_libjpeg() {
    let family = family();
    assert!(family.len() > 150, "{} files", family.len());
    for (name, jpeg, expected) in family {
        let picture = decoded(&jpeg);
        assert!(is_whole(&picture), "{name}: {:?}", picture.damage);
        let found = pixels(&picture);
        assert_eq!(found.len(), expected.len(), "{name}");
        let farthest = found.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!(farthest, Some(0), "{name}");
    }
}

#[test]
fn the_height_may_stand_behind_the_first_scan() {
    for (name, jpeg, expected) in family() {
        let mut moved = jpeg.clone();
        let frame = [0xC0, 0xC1, 0xC2].iter().find_map(|kind| {
            let at = moved.windows(4).position(|bytes| bytes[..2] == [0xFF, *kind] && bytes[2] == 0)?;
            Some(at + 5)
        });
        let height = frame.expect("a frame");
        let lines = [&[0xFF, NUMBER_OF_LINES, 0, 4], &moved[height..height + 2]].concat();
        moved[height..height + 2].fill(0);
        let first = find(&moved, START_OF_SCAN);
        let mut end = first + 2;
        while let Some((marker, body)) = next_marker(&moved, end) {
            end = body;
            if !is_standalone(marker) {
                break;
            }
        }
        moved.splice(end - 2..end - 2, lines);
        let picture = decoded(&moved);
        assert!(is_whole(&picture) && pixels(&picture) == expected, "{name}");
    }
}

#[test]
fn a_picture_without_codes_means_the_standard_ones() {
    let whole = encoded(50, 34);
    let mut bare = whole.clone();
    while let Some(at) = bare.windows(2).position(|pair| pair == [0xFF, 0xC4]) {
        let length = usize::from(be16(&bare[at + 2..]).expect("a length"));
        bare.drain(at..at + 2 + length);
    }
    assert!(bare.len() < whole.len());
    assert_eq!(pixels(&decoded(&bare)), pixels(&decoded(&whole)));
}

#[test]
fn codings_that_are_not_read_are_named() {
    let whole = encoded(16, 16);
    let frame = find(&whole, 0xC0);
    const LUMINANCE: usize = 11;
    const BLUE: usize = 14;
    for (changes, feature) in [
        (vec![(1, 0xC3)], "lossless coding"),
        (vec![(1, 0xC5)], "hierarchical coding"),
        (vec![(1, 0xC9)], "arithmetic coding"),
        (vec![(4, 12)], "samples of 12 bits"),
        (vec![(9, 2)], "2 colour components"),
        (vec![(LUMINANCE, 0x21), (BLUE, 0x31)], "sampling factors whose ratio is not whole"),
    ] {
        let mut bytes = whole.clone();
        for (at, value) in changes {
            bytes[frame + at] = value;
        }
        let error = Jpeg::open(&bytes).err().expect("refused").to_string();
        assert_eq!(error, format!("the JPEG image uses {feature}, which is not supported"));
    }
}

#[test]
fn only_the_end_mark_may_be_missing() {
    for (width, height) in [(64, 48), (33, 71), (1, 1)] {
        let bytes = encoded(width, height);
        let whole = decoded(&bytes);
        assert!(is_whole(&whole));
        for missing in [1, 2] {
            let picture = decoded(&bytes[..bytes.len() - missing]);
            assert!(picture.end_missing && picture.damage.is_none());
            assert_eq!(pixels(&picture), pixels(&whole));
        }
    }
    let bytes = encoded(64, 48);
    let picture = decoded(&bytes[..bytes.len() - 8]);
    assert!(picture.end_missing && picture.damage.is_some());
}

#[test]
fn an_end_mark_behind_half_a_picture_is_damage() {
    let bytes = encoded(64, 48);
    let closed = [&bytes[..bytes.len() / 2], &[0xFF, 0xD9]].concat();
    let damage = decoded(&closed).damage;
    assert!(matches!(damage, Some(Damage::Units { present, expected: 48 }) if present < 48), "{damage:?}");
}

#[test]
fn half_a_picture_has_its_first_half() {
    let bytes = encoded(512, 512);
    let (half, whole) = (decoded(&bytes[..bytes.len() / 2]), decoded(&bytes));
    let Some(Damage::Units { present, expected }) = half.damage else { panic!("half the file is gone") };
    assert!((expected / 4..expected * 3 / 4).contains(&present), "{present} of {expected}");
    let quarter = 512 * 128 * 3;
    assert_eq!(pixels(&half)[..quarter], pixels(&whole)[..quarter]);
}

#[test]
fn grey_pictures_may_lack_their_end_mark_too() {
    let mut bytes = Vec::new();
    JpegEncoder::new(&mut bytes).encode_image(&GrayImage::new(100, 9)).expect("encoding to memory");
    let picture = decoded(&bytes[..bytes.len() - 2]);
    assert!(picture.end_missing && picture.damage.is_none());
}

/// Each file of the family whose name has `part`.
fn named(part: &str) -> impl Iterator<Item = (String, Vec<u8>, Vec<u8>)> {
    let part = part.to_owned();
    family().into_iter().filter(move |(name, ..)| name.contains(&part))
}

#[test]
fn a_spoiled_restart_interval_spoils_no_other() {
    let mut seen = 0;
    for (name, mut jpeg, expected) in named("rgb-restart").chain(named("grey-restart")) {
        // The data between the third and the fourth restart becomes a code that does not exist.
        let (third, fourth) = (find(&jpeg, 0xD2), find(&jpeg, 0xD3));
        jpeg[third + 2..fourth].fill(0xFE);
        let picture = decoded(&jpeg);
        assert!(matches!(picture.damage, Some(Damage::Units { .. } | Damage::Codes)), "{name}: {:?}", picture.damage);
        let wrong = pixels(&picture).iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert!(wrong > 0 && wrong <= 8 * 8 * 3, "{name}: {wrong} samples");
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn a_lost_restart_interval_shifts_no_other() {
    for (name, mut jpeg, expected) in named("grey-restart") {
        let (third, fourth) = (find(&jpeg, 0xD2), find(&jpeg, 0xD3));
        jpeg.drain(third..fourth);
        let wrong = pixels(&decoded(&jpeg)).iter().zip(&expected).filter(|(a, b)| a != b).count();
        assert!(wrong <= 2 * 8 * 8 * 3, "{name}: {wrong} samples");
    }
}

#[test]
fn a_progressive_picture_without_its_last_scans_is_damaged() {
    let mut seen = 0;
    for (name, jpeg, _) in named("-progressive") {
        let last = jpeg.windows(2).rposition(|pair| pair == [0xFF, START_OF_SCAN]).expect("scans");
        let closed = [&jpeg[..last], &[0xFF, END_OF_IMAGE]].concat();
        for (bytes, end_missing) in [(&jpeg[..last], true), (&closed, false)] {
            let picture = decoded(bytes);
            assert_eq!((picture.end_missing, picture.damage), (end_missing, Some(Damage::Refinements)), "{name}");
        }
        seen += 1;
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn a_progressive_picture_without_a_scan_in_its_middle_is_damaged() {
    let mut seen = 0;
    for (name, jpeg, _) in named("-progressive") {
        let is_scan = |at: &usize| jpeg[*at..].starts_with(&[0xFF, START_OF_SCAN]);
        let scans: Vec<usize> = (0..jpeg.len()).filter(is_scan).collect();
        for pair in scans.windows(2).skip(1) {
            // The tables between two scans are those of the second.
            let tables = jpeg[pair[0] + 2..pair[1]].windows(2).position(|marker| marker == [0xFF, 0xC4]);
            let end = tables.map_or(pair[1], |at| pair[0] + 2 + at);
            let picture = decoded(&[&jpeg[..pair[0]], &jpeg[end..]].concat());
            assert!(picture.damage.is_some(), "{name}: the scan at {} of {scans:?}", pair[0]);
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn a_missing_component_is_damage() {
    for (name, jpeg, _) in named("luma-2x2-scans-35") {
        let last = jpeg.windows(2).rposition(|pair| pair == [0xFF, START_OF_SCAN]).expect("scans");
        assert_eq!(decoded(&jpeg[..last]).damage, Some(Damage::Components), "{name}");
    }
}

/// A picture of 128 x 96 pixels without restarts, and its pixels.
fn long_scan() -> (Vec<u8>, Vec<u8>) {
    let bytes = encoded(128, 96);
    let expected = pixels(&decoded(&bytes));
    (bytes, expected)
}

#[test]
fn a_spoiled_byte_loses_little_of_what_follows() {
    let (jpeg, expected) = long_scan();
    let start = find(&jpeg, START_OF_SCAN) + 14;
    let (mut kept, mut tries) = (0, 0);
    for at in (start..start + (jpeg.len() - start) / 2).step_by(7) {
        // Neither the spoiled byte nor one beside it may look like a marker.
        if jpeg[at - 1] == 0xFF || jpeg[at] == 0xFF {
            continue;
        }
        let mut spoiled = jpeg.clone();
        spoiled[at] ^= 0x10;
        if spoiled[at] == 0xFF {
            continue;
        }
        let picture = decoded(&spoiled);
        tries += 1;
        // Grey is what stands where nothing was decoded.
        let grey = pixels(&picture).chunks_exact(3).rev().take_while(|pixel| *pixel == [128; 3]).count();
        kept += usize::from(grey * 20 < expected.len() / 3);
    }
    assert!(tries > 50 && kept * 10 > tries * 9, "{kept} of {tries} pictures reach their last rows");
}

#[test]
fn bytes_that_are_left_over_are_damage_and_padding_is_not() {
    let (jpeg, expected) = long_scan();
    let end = jpeg.len() - 2;
    for (extra, warned) in [([0; 40], false), ([0xFF; 40], false), ([0x5A; 40], true)] {
        let picture = decoded(&[&jpeg[..end], &extra, &jpeg[end..]].concat());
        assert_eq!(picture.damage, warned.then_some(Damage::Surplus(40)), "{extra:?}");
        assert_eq!(pixels(&picture), expected);
    }
    // Cameras write a few bytes too many.
    assert!(is_whole(&decoded(&[&jpeg[..end], &[0x5A; 4], &jpeg[end..]].concat())));
    // A height that is too small leaves the lower rows unread.
    let mut low = jpeg.clone();
    let frame = find(&low, 0xC0);
    low[frame + 6] = 48;
    assert!(matches!(decoded(&low).damage, Some(Damage::Surplus(bytes)) if bytes > 100));
}

#[test]
fn endless_scans_end() {
    let jpeg = encoded(16, 16);
    let (scan, end) = (find(&jpeg, START_OF_SCAN), jpeg.len() - 2);
    let mut many = jpeg[..end].to_vec();
    for _ in 0..MAX_SCANS {
        many.extend(&jpeg[scan..end]);
    }
    assert!(matches!(decoded(&many).damage, Some(Damage::Segment(_))));
}

#[test]
fn a_header_without_pixels_is_an_error() {
    let jpeg = encoded(16, 16);
    for keep in [2, 4, 60, find(&jpeg, START_OF_SCAN)] {
        assert!(matches!(Jpeg::open(&jpeg[..keep]), Err(Error::ImageTruncated { .. })), "{keep}");
    }
    let empty = [&jpeg[..find(&jpeg, START_OF_SCAN)], &[0xFF, END_OF_IMAGE]].concat();
    assert!(matches!(Jpeg::open(&empty), Err(Error::ImageDecode { .. })));
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Jpeg::open(&bytes).and_then(Jpeg::decode);
    }

    #[test]
    fn damaged_files_get_an_answer(
        file in 0usize..150,
        flips in prop::collection::vec((0usize..1200, any::<u8>()), 1..6),
        keep in 0usize..1500,
    ) {
        let mut bytes = family().swap_remove(file).1;
        for (at, value) in flips {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        bytes.truncate(keep);
        if let Ok(jpeg) = Jpeg::open(&bytes) {
            let (width, height) = jpeg.dimensions();
            // A flipped size may make the picture huge.
            if jpeg.plane_bytes() < 1 << 22 && let Ok(picture) = jpeg.decode() {
                prop_assert_eq!(pixels(&picture).len(), (width * height * 3) as usize);
            }
        }
    }
}
