//! Whether a JPEG holds all its rows. The decoder fills what it cannot read with grey and says nothing.
//!
//! The rule: every block of a sequential picture must be readable as a chain of Huffman codes. Where that fails, the
//! picture is damaged if the file has an end-of-image marker, and cut off if it has none; a file that lacks nothing but
//! the marker is noted. The coefficients of a progressive picture are not followed: with the marker it counts as whole,
//! without it as cut off.

mod entropy;

use crate::ending::{Cut, Ending};
use entropy::{Bits, Huffman, Lookup};

/// The most components that the decoder reads: CMYK.
const MAX_COMPONENTS: usize = 4;

/// How the file ends.
pub(crate) fn ending(bytes: &[u8]) -> Ending {
    let mut tables = Tables::default();
    let mut damage = None;
    let mut at = 0;
    while let Some((marker, body)) = next_marker(bytes, at) {
        match marker {
            0xD9 => return damage.map_or(Ending::Complete, Ending::Damaged),
            // Standalone markers: start of image, restarts, TEM.
            0xD0..=0xD8 | 0x01 => at = body,
            _ => {
                let Some(segment) = segment(bytes, body) else { return Ending::Cut(Cut::Header) };
                at = body + 2 + segment.len();
                // A table that breaks the rules is the decoder's to refuse.
                let _ = tables.read(marker, segment);
                if marker == 0xDA {
                    if scan_is_last(&bytes[at..]) {
                        return tables.last_scan(segment, &bytes[at..]);
                    }
                    damage = damage.or_else(|| tables.damage(segment, &bytes[at..]));
                }
            }
        }
    }
    Ending::Cut(Cut::Header)
}

/// The next marker at or after `at`, and the position behind it.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)? + 1;
        match bytes.get(at)? {
            // A stuffed byte of entropy-coded data, or padding before a marker.
            0x00 | 0xFF => {}
            &marker => return Some((marker, at + 1)),
        }
    }
}

/// The body of the segment whose length lies at `at`, if all of it is there.
fn segment(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(be16(bytes.get(at..)?)?);
    bytes.get(at + 2..(at + length).max(at + 2))
}

/// Whether no marker but restarts follows.
fn scan_is_last(data: &[u8]) -> bool {
    let mut at = 0;
    while let Some((marker, next)) = next_marker(data, at) {
        if !(0xD0..=0xD7).contains(&marker) {
            return false;
        }
        at = next;
    }
    true
}

fn be16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.first_chunk()?))
}

/// What the segments before a scan say.
#[derive(Default)]
struct Tables {
    frame: Option<Frame>,
    huffman: [[Option<Huffman>; 4]; 2],
    restart_interval: u64,
    /// Identifiers of the components that scans held.
    seen: Vec<u8>,
}

struct Frame {
    sequential: bool,
    width: u64,
    height: u64,
    components: Vec<Component>,
}

struct Component {
    id: u8,
    across: u64,
    down: u64,
}

impl Tables {
    fn read(&mut self, marker: u8, segment: &[u8]) -> Option<()> {
        match marker {
            0xC4 => self.read_huffman(segment),
            // The other frame kinds (lossless, arithmetic, hierarchical) are refused by the decoder.
            0xC0..=0xC2 => {
                self.frame = Some(Frame::read(segment, marker != 0xC2)?);
                Some(())
            }
            0xDD => {
                self.restart_interval = u64::from(be16(segment)?);
                Some(())
            }
            0xDA => {
                let count = usize::from(*segment.first()?);
                let specs = segment.get(1..1 + 2 * count)?;
                self.seen.extend(specs.chunks_exact(2).map(|spec| spec[0]));
                Some(())
            }
            _ => Some(()),
        }
    }

    fn read_huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&kind, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let total = counts.iter().map(|&count| usize::from(count)).sum();
            let (values, rest) = rest.split_at_checked(total)?;
            *self.huffman.get_mut(usize::from(kind >> 4))?.get_mut(usize::from(kind & 15))? =
                Some(Huffman { counts: *counts, values: values.to_vec() });
            segment = rest;
        }
        Some(())
    }

    /// Judges a picture whose last scan runs to the end of the file.
    fn last_scan(&self, header: &[u8], data: &[u8]) -> Ending {
        let Some(frame) = &self.frame else { return Ending::Cut(Cut::Header) };
        if !frame.sequential {
            return Ending::Cut(Cut::Progressive);
        }
        if !frame.components.iter().all(|component| self.seen.contains(&component.id)) {
            return Ending::Cut(Cut::Components);
        }
        match self.count_units(frame, header, data) {
            Some((present, expected)) if present < expected => Ending::Cut(Cut::Units { present, expected }),
            Some(_) => Ending::MarkMissing,
            None => Ending::Cut(Cut::Header),
        }
    }

    /// What is wrong with the data of a scan that another marker follows; what cannot be judged is not wrong.
    fn damage(&self, header: &[u8], data: &[u8]) -> Option<Cut> {
        // A sequential picture has each component once; more scans than that are not worth the time.
        let frame = self.frame.as_ref().filter(|frame| frame.sequential && self.seen.len() <= MAX_COMPONENTS)?;
        let (present, expected) = self.count_units(frame, header, data)?;
        (present < expected).then_some(Cut::Units { present, expected })
    }

    /// How many coded units (groups of blocks) of a scan are there, and how many there should be.
    fn count_units(&self, frame: &Frame, header: &[u8], data: &[u8]) -> Option<(u64, u64)> {
        let specs = header.get(1..1 + 2 * usize::from(*header.first()?))?;
        let mut plan = Vec::new();
        let mut members = Vec::new();
        for spec in specs.chunks_exact(2) {
            let component = frame.components.iter().find(|component| component.id == spec[0])?;
            let table = |kind: usize, index: u8| self.huffman[kind].get(usize::from(index))?.as_ref().map(Lookup::new);
            // A scan of a single component is coded block by block.
            let blocks = if specs.len() == 2 { 1 } else { component.across * component.down };
            plan.push((blocks, table(0, spec[1] >> 4)?, table(1, spec[1] & 15)?));
            members.push(component);
        }
        let expected = frame.units(&members)?;
        let mut bits = Bits::new(data);
        for unit in 0..expected {
            let restart = self.restart_interval > 0 && unit > 0 && unit % self.restart_interval == 0;
            let whole = (!restart || bits.restart().is_some())
                && plan.iter().all(|(blocks, dc, ac)| (0..*blocks).all(|_| bits.skip_block(dc, ac).is_some()));
            if !whole {
                return Some((unit, expected));
            }
        }
        Some((expected, expected))
    }
}

impl Frame {
    fn read(segment: &[u8], sequential: bool) -> Option<Self> {
        let (height, width) = (u64::from(be16(segment.get(1..)?)?), u64::from(be16(segment.get(3..)?)?));
        let count = usize::from(*segment.get(5)?);
        let specs = segment.get(6..6 + 3 * count)?;
        let component =
            |spec: &[u8]| Component { id: spec[0], across: u64::from(spec[1] >> 4), down: u64::from(spec[1] & 15) };
        Some(Self { sequential, width, height, components: specs.chunks_exact(3).map(component).collect() })
    }

    /// Coded units of a scan that holds `members`.
    fn units(&self, members: &[&Component]) -> Option<u64> {
        const SIDE: u64 = 8;
        let across = self.components.iter().map(|component| component.across).max().filter(|&most| most > 0)?;
        let down = self.components.iter().map(|component| component.down).max().filter(|&most| most > 0)?;
        Some(match members {
            [one] => {
                (self.width * one.across).div_ceil(across).div_ceil(SIDE)
                    * (self.height * one.down).div_ceil(down).div_ceil(SIDE)
            }
            _ => self.width.div_ceil(SIDE * across) * self.height.div_ceil(SIDE * down),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{GrayImage, RgbImage, codecs::jpeg::JpegEncoder};
    use proptest::prelude::*;

    fn encoded(width: u32, height: u32) -> Vec<u8> {
        let image = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 9) as u8, (y * 5) as u8, (x * y) as u8]));
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 80).encode_image(&image).expect("encoding to memory");
        bytes
    }

    #[test]
    fn only_the_end_mark_may_be_missing() {
        for (width, height) in [(64, 48), (33, 71), (1, 1)] {
            let bytes = encoded(width, height);
            assert_eq!(ending(&bytes), Ending::Complete);
            assert_eq!(ending(&bytes[..bytes.len() - 1]), Ending::MarkMissing);
            assert_eq!(ending(&bytes[..bytes.len() - 2]), Ending::MarkMissing);
            assert!(matches!(ending(&bytes[..bytes.len() - 8]), Ending::Cut(_)));
        }
    }

    #[test]
    fn an_end_mark_behind_half_a_picture_is_damage() {
        let bytes = encoded(64, 48);
        let closed = [&bytes[..bytes.len() / 2], &[0xFF, 0xD9]].concat();
        assert!(matches!(ending(&closed), Ending::Damaged(Cut::Units { present, expected: 48 }) if present < 48));
    }

    #[test]
    fn half_a_picture_is_half_of_its_units() {
        let bytes = encoded(512, 512);
        let Ending::Cut(Cut::Units { present, expected }) = ending(&bytes[..bytes.len() / 2]) else {
            panic!("half the file is gone")
        };
        assert!((expected / 4..expected * 3 / 4).contains(&present), "{present} of {expected}");
    }

    #[test]
    fn grey_pictures_are_counted_too() {
        let mut bytes = Vec::new();
        JpegEncoder::new(&mut bytes).encode_image(&GrayImage::new(100, 9)).expect("encoding to memory");
        assert_eq!(ending(&bytes[..bytes.len() - 2]), Ending::MarkMissing);
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = ending(&bytes);
        }

        #[test]
        fn damaged_files_get_an_answer(flips in prop::collection::vec((0usize..700, any::<u8>()), 1..6), keep in 0usize..700) {
            let mut bytes = encoded(24, 24);
            for (at, value) in flips {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes.truncate(keep);
            let _ = ending(&bytes);
        }
    }
}
