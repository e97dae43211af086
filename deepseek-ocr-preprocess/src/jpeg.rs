//! Whether a JPEG holds all its rows. The decoder fills what is missing with grey and says nothing.
//!
//! The rule: a file with an end-of-image marker is whole. Without one, a sequential picture is whole when every block of
//! its last scan can be read from the bytes that are there; anything else, and every progressive picture, is cut off.

use crate::ending::{Cut, Ending};

/// Coefficients of an 8 x 8 block.
const BLOCK: usize = 64;

/// How the file ends.
pub(crate) fn ending(bytes: &[u8]) -> Ending {
    let mut tables = Tables::default();
    let mut at = 0;
    while let Some((marker, body)) = next_marker(bytes, at) {
        match marker {
            0xD9 => return Ending::Complete,
            // Standalone markers: start of image, restarts, TEM.
            0xD0..=0xD8 | 0x01 => at = body,
            _ => {
                let Some(segment) = segment(bytes, body) else { return Ending::Cut(Cut::Header) };
                at = body + 2 + segment.len();
                // A table that breaks the rules is the decoder's to refuse.
                let _ = tables.read(marker, segment);
                if marker == 0xDA && scan_is_last(&bytes[at..]) {
                    return tables.last_scan(segment, &bytes[at..]);
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

    /// How many coded units (groups of blocks) of a scan are there, and how many there should be.
    fn count_units(&self, frame: &Frame, header: &[u8], data: &[u8]) -> Option<(u64, u64)> {
        let specs = header.get(1..1 + 2 * usize::from(*header.first()?))?;
        let mut plan = Vec::new();
        let mut members = Vec::new();
        for spec in specs.chunks_exact(2) {
            let component = frame.components.iter().find(|component| component.id == spec[0])?;
            let table = |kind: usize, index: u8| self.huffman[kind].get(usize::from(index))?.as_ref();
            let tables = (table(0, spec[1] >> 4)?, table(1, spec[1] & 15)?);
            // A scan of a single component is coded block by block.
            let blocks = if specs.len() == 2 { 1 } else { component.across * component.down };
            plan.extend((0..blocks).map(|_| tables));
            members.push(component);
        }
        let expected = frame.units(&members)?;
        let mut bits = Bits { data, at: 0, byte: 0, left: 0 };
        for unit in 0..expected {
            let restart = self.restart_interval > 0 && unit > 0 && unit % self.restart_interval == 0;
            let whole =
                (!restart || bits.restart().is_some()) && plan.iter().all(|(dc, ac)| bits.skip_block(dc, ac).is_some());
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

/// A canonical prefix code: how many codes there are of each length, and their values in order.
struct Huffman {
    counts: [u8; 16],
    values: Vec<u8>,
}

/// Entropy-coded data, bit by bit.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    byte: u8,
    left: u32,
}

impl Bits<'_> {
    /// The next bit; `None` at a marker and at the end.
    fn bit(&mut self) -> Option<u32> {
        if self.left == 0 {
            self.byte = *self.data.get(self.at)?;
            self.at += 1;
            if self.byte == 0xFF {
                if *self.data.get(self.at)? != 0 {
                    return None;
                }
                self.at += 1;
            }
            self.left = 8;
        }
        self.left -= 1;
        Some(u32::from(self.byte >> self.left) & 1)
    }

    fn skip(&mut self, bits: u8) -> Option<()> {
        (0..bits).try_for_each(|_| self.bit().map(|_| ()))
    }

    fn symbol(&mut self, code: &Huffman) -> Option<u8> {
        let (mut word, mut first, mut offset) = (0u32, 0u32, 0usize);
        for &count in &code.counts {
            word = word << 1 | self.bit()?;
            let index = word.wrapping_sub(first);
            if index < u32::from(count) {
                return code.values.get(offset + index as usize).copied();
            }
            offset += usize::from(count);
            first = (first + u32::from(count)) << 1;
        }
        None
    }

    /// Passes over one block: the DC difference, then runs of zeros and AC values up to the end-of-block symbol.
    fn skip_block(&mut self, dc: &Huffman, ac: &Huffman) -> Option<()> {
        const END_OF_BLOCK: u8 = 0x00;
        let size = self.symbol(dc)?;
        self.skip(size)?;
        let mut coefficient = 1;
        while coefficient < BLOCK {
            let symbol = self.symbol(ac)?;
            if symbol == END_OF_BLOCK {
                break;
            }
            coefficient += usize::from(symbol >> 4) + 1;
            self.skip(symbol & 15)?;
        }
        Some(())
    }

    /// Drops the rest of the byte and passes over a restart marker.
    fn restart(&mut self) -> Option<()> {
        self.left = 0;
        let (marker, next) = next_marker(self.data, self.at)?;
        self.at = next;
        (0xD0..=0xD7).contains(&marker).then_some(())
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
