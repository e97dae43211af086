//! The directories of a TIFF or BigTIFF file and the values of their tags.

use super::{broken, truncated};
use deepseek_ocr_core::Result;
use std::collections::HashSet;

/// Tags by their names in TIFF 6.0 and its supplements.
pub(super) mod tag {
    pub(crate) const NEW_SUBFILE_TYPE: u16 = 254;
    pub(crate) const SUBFILE_TYPE: u16 = 255;
    pub(crate) const IMAGE_WIDTH: u16 = 256;
    pub(crate) const IMAGE_LENGTH: u16 = 257;
    pub(crate) const BITS_PER_SAMPLE: u16 = 258;
    pub(crate) const COMPRESSION: u16 = 259;
    pub(crate) const PHOTOMETRIC: u16 = 262;
    pub(crate) const FILL_ORDER: u16 = 266;
    pub(crate) const STRIP_OFFSETS: u16 = 273;
    pub(crate) const ORIENTATION: u16 = 274;
    pub(crate) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(crate) const ROWS_PER_STRIP: u16 = 278;
    pub(crate) const STRIP_BYTE_COUNTS: u16 = 279;
    pub(crate) const PLANAR_CONFIGURATION: u16 = 284;
    pub(crate) const T4_OPTIONS: u16 = 292;
    pub(crate) const PREDICTOR: u16 = 317;
    pub(crate) const COLOR_MAP: u16 = 320;
    pub(crate) const TILE_WIDTH: u16 = 322;
    pub(crate) const TILE_LENGTH: u16 = 323;
    pub(crate) const TILE_OFFSETS: u16 = 324;
    pub(crate) const TILE_BYTE_COUNTS: u16 = 325;
    pub(crate) const SUB_IFDS: u16 = 330;
    pub(crate) const INK_SET: u16 = 332;
    pub(crate) const EXTRA_SAMPLES: u16 = 338;
    pub(crate) const SAMPLE_FORMAT: u16 = 339;
    pub(crate) const JPEG_TABLES: u16 = 347;
    pub(crate) const YCBCR_COEFFICIENTS: u16 = 529;
    pub(crate) const YCBCR_SUBSAMPLING: u16 = 530;
    pub(crate) const REFERENCE_BLACK_WHITE: u16 = 532;
    pub(crate) const XMP: u16 = 700;
}

/// A TIFF or BigTIFF file.
#[derive(Clone, Copy)]
pub(super) struct File<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) big_endian: bool,
    /// Whether counts and offsets have 64 bits.
    big: bool,
    /// Offset of the first directory.
    first: u64,
}

/// One directory: mostly a page.
pub(super) struct Directory<'a> {
    pub(super) file: File<'a>,
    entries: Vec<Entry>,
    next: u64,
}

/// One entry of a directory.
struct Entry {
    tag: u16,
    kind: u16,
    count: u64,
    /// Where the value lies, or the offset of a value that does not fit.
    at: usize,
}

/// The directories that are pages.
pub(super) struct Pages<'a> {
    pub(super) directories: Vec<Directory<'a>>,
    /// Whether the chain of directories leads to where no directory is, so that pages may be lost.
    pub(super) cut: bool,
}

impl<'a> File<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
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

    /// The pages in order; a chain that comes back to itself ends there.
    pub(super) fn pages(self) -> Pages<'a> {
        let (mut pages, mut others) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut at = self.first;
        // Directories that lie on top of each other could hold the square of the file's size.
        let mut entries_left = self.bytes.len();
        let mut cut = false;
        while at != 0 && seen.insert(at) {
            let directory = self.directory(at).filter(|directory| directory.entries.len() <= entries_left);
            let Some(directory) = directory else {
                cut = true;
                break;
            };
            entries_left -= directory.entries.len();
            at = directory.next;
            if directory.is_page() { &mut pages } else { &mut others }.push(directory);
        }
        // A file of nothing but reduced copies shows those.
        Pages { directories: if pages.is_empty() { others } else { pages }, cut }
    }

    fn directory(self, offset: u64) -> Option<Directory<'a>> {
        let offset = usize::try_from(offset).ok()?;
        let (head, size) = if self.big { (8, 20) } else { (2, 12) };
        let count = if self.big { self.offset(offset)? } else { u64::from(self.short(offset)?) };
        let start = offset.checked_add(head)?;
        let end = usize::try_from(count).ok()?.checked_mul(size)?.checked_add(start)?;
        let table = self.bytes.get(start..end)?;
        let entry = |i: usize| {
            let at = start + i * size;
            let count = if self.big { self.offset(at + 4)? } else { u64::from(self.word(at + 4)?) };
            let value = at + if self.big { 12 } else { 8 };
            Some(Entry { tag: self.short(at)?, kind: self.short(at + 2)?, count, at: value })
        };
        let entries = (0..table.len() / size).map(entry).collect::<Option<_>>()?;
        Some(Directory { file: self, entries, next: self.offset(end).unwrap_or(0) })
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn long(&self, at: usize) -> Option<u64> {
        let bytes = *self.bytes.get(at..)?.first_chunk()?;
        Some(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// A count or offset of the file's width.
    fn offset(&self, at: usize) -> Option<u64> {
        if self.big { self.long(at) } else { self.word(at).map(u64::from) }
    }
}

impl<'a> Directory<'a> {
    /// Whether this is a page, not a reduced copy of one or its transparency mask.
    pub(super) fn is_page(&self) -> bool {
        const REDUCED: u64 = 1;
        const MASK: u64 = 4;
        /// Of the old tag.
        const OLD_REDUCED: u64 = 2;
        let number = |tag| self.number(tag).ok().flatten();
        number(tag::NEW_SUBFILE_TYPE).unwrap_or(0) & (REDUCED | MASK) == 0
            && number(tag::SUBFILE_TYPE) != Some(OLD_REDUCED)
    }

    /// The first value of a tag of whole numbers, if the tag is there.
    pub(super) fn number(&self, tag: u16) -> Result<Option<u64>> {
        Ok(self.numbers(tag)?.first().copied())
    }

    /// The values of a tag of whole numbers; none where the tag is not there.
    pub(super) fn numbers(&self, tag: u16) -> Result<Vec<u64>> {
        let Some(entry) = self.entry(tag) else { return Ok(Vec::new()) };
        let (file, bytes) = (self.file, self.value(entry)?);
        let value = |at: usize| match entry.kind {
            1 => file.bytes.get(at).map(|&byte| u64::from(byte)),
            3 => file.short(at).map(u64::from),
            4 | 13 => file.word(at).map(u64::from),
            16 | 18 => file.long(at),
            _ => None,
        };
        let values = bytes.step_by(width(entry.kind)).map(value).collect::<Option<_>>();
        values.ok_or_else(|| broken(format!("tag {tag} has type {}, not a whole number", entry.kind)))
    }

    /// The values of a tag of fractions; none where the tag is not there.
    pub(super) fn fractions(&self, tag: u16) -> Result<Vec<f64>> {
        const RATIONAL: u16 = 5;
        match self.entry(tag) {
            Some(entry) if entry.kind == RATIONAL => {
                let word = |at| self.file.word(at).map_or(0.0, f64::from);
                Ok(self.value(entry)?.step_by(width(RATIONAL)).map(|at| word(at) / word(at + 4)).collect())
            }
            // Old writers of ReferenceBlackWhite used whole numbers.
            _ => Ok(self.numbers(tag)?.into_iter().map(|value| value as f64).collect()),
        }
    }

    /// The bytes of a tag; none where the tag is not there.
    pub(super) fn bytes(&self, tag: u16) -> Result<&'a [u8]> {
        self.entry(tag).map_or(Ok(&[]), |entry| Ok(&self.file.bytes[self.value(entry)?]))
    }

    pub(super) fn has(&self, tag: u16) -> bool {
        self.entry(tag).is_some()
    }

    fn entry(&self, tag: u16) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.tag == tag)
    }

    /// Where the bytes of a value lie.
    fn value(&self, entry: &Entry) -> Result<std::ops::Range<usize>> {
        let place = || {
            let length = usize::try_from(entry.count).ok()?.checked_mul(width(entry.kind))?;
            let inline = if self.file.big { 8 } else { 4 };
            let start = if length <= inline { entry.at } else { usize::try_from(self.file.offset(entry.at)?).ok()? };
            let end = start.checked_add(length)?;
            (end <= self.file.bytes.len()).then_some(start..end)
        };
        place().ok_or_else(|| truncated(format!("tag {} lies behind the end of the data", entry.tag)))
    }
}

/// Bytes of one value of a type.
fn width(kind: u16) -> usize {
    match kind {
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => 1,
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

    fn pages(bytes: &[u8]) -> (usize, bool) {
        File::new(bytes).map_or((0, true), |file| (file.pages().directories.len(), file.pages().cut))
    }

    #[test]
    fn pages_are_counted_and_loops_end() {
        assert_eq!(pages(&two_pages(0)), (2, false));
        assert_eq!(pages(&two_pages(8)), (2, false));
        assert_eq!(pages(&two_pages(14)), (2, false));
        assert_eq!(pages(&two_pages(200)), (2, true));
        assert_eq!(pages(b"II*\0"), (0, true));
    }

    #[test]
    fn the_old_tag_of_reduced_copies_counts_too() {
        // A directory with `SubfileType` 2, then one without.
        let entry = [255, 0, 3, 0, 1, 0, 0, 0, 2, 0, 0, 0];
        let bytes = [b"II*\0\x08\0\0\0".as_slice(), &[1, 0], &entry, &[26, 0, 0, 0], &[0; 6]].concat();
        let found = File::new(&bytes).expect("a TIFF").pages();
        assert_eq!(found.directories.iter().map(|page| page.entries.len()).collect::<Vec<_>>(), [0]);
        // Where nothing but copies are there, they are shown.
        let alone = [&bytes[..22], &[0; 4]].concat();
        assert_eq!(pages(&alone), (1, false));
    }

    #[test]
    fn directories_on_top_of_each_other_take_no_time() {
        // Each directory claims as many entries as fit, and its successor lies one byte further on.
        let mut bytes = b"II*\0\x08\0\0\0".to_vec();
        bytes.resize(1 << 20, 1);
        bytes[8..10].copy_from_slice(&[0, 0x40]);
        let started = std::time::Instant::now();
        assert!(pages(&bytes).0 < 1000);
        assert!(started.elapsed().as_secs() < 5);
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0usize..4) {
            let magic: &[u8] = [b"II*\0".as_slice(), b"MM\0*", b"II+\0", b"MM\0+"][magic];
            let bytes = [magic, &bytes].concat();
            let _ = pages(&bytes);
        }
    }
}
