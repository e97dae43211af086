//! The directories of a TIFF file: how many pages there are, and palettes, which the decoder does not expand.

use std::collections::HashSet;

const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const COLOR_MAP: u16 = 320;

/// Values of [`PHOTOMETRIC`].
const BLACK_IS_ZERO: u16 = 1;
const PALETTE: u16 = 3;

/// The colours of a palette page, and the file with its first page declared grey, so that it decodes to indices.
pub(crate) struct Indexed {
    pub(crate) grey: Vec<u8>,
    colors: Vec<[u8; 3]>,
}

impl Indexed {
    /// The first page of `bytes`, if it has a palette of 1 or 8 bits.
    pub(crate) fn new(bytes: &[u8]) -> Option<Self> {
        let file = File::new(bytes)?;
        let entries = file.directory(file.first)?.0;
        let find = |tag| entries.iter().find(|entry| entry.tag == tag);
        let (photometric, bits) = (find(PHOTOMETRIC)?, find(BITS_PER_SAMPLE));
        let bits = bits.map_or(Some(1), |bits| file.short(bits.at))?;
        let samples = find(SAMPLES_PER_PIXEL).map_or(Some(1), |samples| file.short(samples.at))?;
        if file.short(photometric.at)? != PALETTE || !matches!(bits, 1 | 8) || samples != 1 {
            return None;
        }
        let size = 1 << bits;
        let map = find(COLOR_MAP).filter(|map| map.count == 3 * size as u64)?;
        let start = usize::try_from(file.offset(map.at)?).ok()?;
        let values: Vec<u16> = (0..3 * size).map(|i| file.short(start.checked_add(2 * i)?)).collect::<Option<_>>()?;
        // Some writers fill the 16-bit fields with 8-bit values.
        let shift = if values.iter().all(|&value| value < 256) { 0 } else { 8 };
        let color = |i: usize| [0, 1, 2].map(|channel| (values[channel * size + i] >> shift) as u8);
        let mut grey = bytes.to_vec();
        let value = if file.big_endian { BLACK_IS_ZERO.to_be_bytes() } else { BLACK_IS_ZERO.to_le_bytes() };
        grey.get_mut(photometric.at..photometric.at + 2)?.copy_from_slice(&value);
        Some(Self { grey, colors: (0..size).map(color).collect() })
    }

    /// The colour of a decoded grey sample.
    pub(crate) fn color(&self, grey: u8) -> [u8; 3] {
        // One bit is decoded to 0 and 255; eight bits are the index itself.
        self.colors[usize::from(grey).min(self.colors.len() - 1)]
    }
}

/// The number of pages; stops at a loop.
pub(crate) fn pages(bytes: &[u8]) -> usize {
    let Some(file) = File::new(bytes) else { return 0 };
    let mut seen = HashSet::new();
    let mut offset = file.first;
    while offset != 0 && seen.insert(offset) {
        let Some((_, next)) = file.directory(offset) else {
            seen.remove(&offset);
            break;
        };
        offset = next;
    }
    seen.len()
}

/// A TIFF or BigTIFF file.
struct File<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// Whether counts and offsets have 64 bits.
    big: bool,
    /// Offset of the first directory.
    first: u64,
}

/// One entry of a directory.
struct Entry {
    tag: u16,
    count: u64,
    /// Where the value lies, or the offset of values that do not fit.
    at: usize,
}

impl<'a> File<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (big_endian, big) = match bytes.first_chunk()? {
            b"II*\0" => (false, false),
            b"MM\0*" => (true, false),
            b"II+\0" => (false, true),
            b"MM\0+" => (true, true),
            _ => return None,
        };
        let mut file = Self { bytes, big_endian, big, first: 0 };
        file.first = file.offset(if big { 8 } else { 4 })?;
        Some(file)
    }

    /// The entries of the directory at `offset`, and the offset of the next one.
    fn directory(&self, offset: u64) -> Option<(Vec<Entry>, u64)> {
        let offset = usize::try_from(offset).ok()?;
        let (head, size) = if self.big { (8, 20) } else { (2, 12) };
        let count = if self.big { self.offset(offset)? } else { u64::from(self.short(offset)?) };
        let start = offset.checked_add(head)?;
        let end = usize::try_from(count).ok()?.checked_mul(size)?.checked_add(start)?;
        let table = self.bytes.get(start..end)?;
        let entry = |i: usize| {
            let at = start + i * size;
            let count = if self.big { self.offset(at + 4)? } else { u64::from(self.word(at + 4)?) };
            Some(Entry { tag: self.short(at)?, count, at: at + if self.big { 12 } else { 8 } })
        };
        let entries = (0..table.len() / size).map(entry).collect::<Option<_>>()?;
        Some((entries, self.offset(end).unwrap_or(0)))
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// A count or offset of the file's width.
    fn offset(&self, at: usize) -> Option<u64> {
        if !self.big {
            return self.word(at).map(u64::from);
        }
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Two directories without entries; the second points to `next`.
    fn two_pages(next: u8) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0\0\0\x0e\0\0\0\0\0".to_vec();
        bytes.extend([next, 0, 0, 0]);
        bytes
    }

    #[test]
    fn pages_are_counted_and_loops_end() {
        assert_eq!(pages(&two_pages(0)), 2);
        assert_eq!(pages(&two_pages(8)), 2);
        assert_eq!(pages(&two_pages(14)), 2);
        assert_eq!(pages(&two_pages(200)), 2);
        assert_eq!(pages(b"II*\0"), 0);
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0usize..4) {
            let magic: &[u8] = [b"II*\0".as_slice(), b"MM\0*", b"II+\0", b"MM\0+"][magic];
            let bytes = [magic, &bytes].concat();
            let _ = (pages(&bytes), Indexed::new(&bytes).is_some());
        }
    }
}
