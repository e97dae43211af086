//! The directory of EXIF data, which is a TIFF file without pixels.

/// Which way the pixels must be turned.
pub(crate) const ORIENTATION: u16 = 0x0112;

/// What tells a camera's raw photo from a TIFF file: bit 0 says that this is a reduced copy, the maker of the camera, more
/// directories, the version of Adobe's DNG.
pub(crate) const NEW_SUBFILE_TYPE: u16 = 0x00FE;
pub(crate) const MAKE: u16 = 0x010F;
pub(crate) const SUB_DIRECTORIES: u16 = 0x014A;
pub(crate) const DNG_VERSION: u16 = 0xC612;

/// One directory of a TIFF or BigTIFF file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory<'a> {
    bytes: &'a [u8],
    layout: Layout,
    /// Offset of the first entry.
    start: usize,
    /// Entries that the directory claims.
    count: usize,
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy)]
struct Layout {
    big_endian: bool,
    /// Whether counts and offsets have 64 bits: BigTIFF.
    big: bool,
}

/// The values of one entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    layout: Layout,
    kind: u16,
    bytes: &'a [u8],
}

impl<'a> Directory<'a> {
    /// The first directory.
    pub(crate) fn first(bytes: &'a [u8]) -> Option<Self> {
        let (big_endian, big) = match bytes.first_chunk()? {
            b"II*\0" => (false, false),
            b"MM\0*" => (true, false),
            b"II+\0" => (false, true),
            b"MM\0+" => (true, true),
            _ => return None,
        };
        let layout = Layout { big_endian, big };
        let offset = layout.offset(bytes.get(if big { 8 } else { 4 }..)?)?;
        let count = bytes.get(offset..)?;
        let (count, size) = if big { (layout.offset(count)?, 8) } else { (usize::from(layout.u16(count)?), 2) };
        Some(Self { bytes, layout, start: offset + size, count })
    }

    /// The values of the last entry with this tag, as Pillow finds it; entries behind the end of the data are not there.
    pub(crate) fn find(&self, tag: u16) -> Option<Values<'a>> {
        let table = self.bytes.get(self.start..)?.chunks_exact(if self.layout.big { 20 } else { 12 });
        let entries = table.take(self.count).filter(|entry| self.layout.u16(entry) == Some(tag));
        entries.rev().find_map(|entry| self.values(entry))
    }

    fn values(&self, entry: &'a [u8]) -> Option<Values<'a>> {
        let layout = self.layout;
        let kind = layout.u16(&entry[2..])?;
        let (count, place) = entry[4..].split_at(if layout.big { 8 } else { 4 });
        let size = layout.offset(count)?.checked_mul(size(kind)?)?;
        // Values that fit lie in the entry itself.
        let bytes =
            if size <= place.len() { &place[..size] } else { self.bytes.get(layout.offset(place)?..)?.get(..size)? };
        Some(Values { layout, kind, bytes })
    }
}

impl Values<'_> {
    /// The first value, if it is a number of any type.
    pub(crate) fn number(&self) -> Option<f64> {
        let Self { layout, bytes, .. } = *self;
        Some(match self.kind {
            1 => f64::from(*bytes.first()?),
            6 => f64::from(*bytes.first()? as i8),
            3 => f64::from(layout.u16(bytes)?),
            8 => f64::from(layout.u16(bytes)? as i16),
            4 | 13 => f64::from(layout.u32(bytes)?),
            9 => f64::from(layout.u32(bytes)? as i32),
            5 => f64::from(layout.u32(bytes)?) / f64::from(layout.u32(bytes.get(4..)?)?),
            10 => f64::from(layout.u32(bytes)? as i32) / f64::from(layout.u32(bytes.get(4..)?)? as i32),
            11 => f64::from(f32::from_bits(layout.u32(bytes)?)),
            12 => f64::from_bits(layout.u64(bytes)?),
            16 | 18 => layout.u64(bytes)? as f64,
            17 => layout.u64(bytes)? as i64 as f64,
            _ => return None,
        })
    }
}

/// Bytes of one value: TIFF 6.0, section 2, and the types that BigTIFF adds (16 to 18).
fn size(kind: u16) -> Option<usize> {
    Some(match kind {
        1 | 2 | 6 | 7 => 1,
        3 | 8 => 2,
        4 | 9 | 11 | 13 => 4,
        5 | 10 | 12 | 16..=18 => 8,
        _ => return None,
    })
}

impl Layout {
    fn u16(self, bytes: &[u8]) -> Option<u16> {
        let bytes = *bytes.first_chunk()?;
        Some(if self.big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(self, bytes: &[u8]) -> Option<u32> {
        let bytes = *bytes.first_chunk()?;
        Some(if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(self, bytes: &[u8]) -> Option<u64> {
        let bytes = *bytes.first_chunk()?;
        Some(if self.big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// A count or an offset.
    fn offset(self, bytes: &[u8]) -> Option<usize> {
        if self.big { self.u64(bytes)?.try_into().ok() } else { self.u32(bytes)?.try_into().ok() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// EXIF data with one entry of one value, which lies 40 bytes behind the directory if it does not fit.
    pub(crate) fn exif(big_endian: bool, tag: u16, kind: u16, value: &[u8]) -> Vec<u8> {
        const START: u32 = 24;
        let short = |value: u16| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let long = |value: u32| if big_endian { value.to_be_bytes() } else { value.to_le_bytes() };
        let mut bytes = if big_endian { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        bytes.extend(long(START));
        bytes.resize(START as usize, 0xEE);
        bytes.extend([short(1), short(tag), short(kind)].concat());
        bytes.extend(long((value.len() / size(kind).expect("a type")) as u32));
        if value.len() <= 4 {
            bytes.extend(value);
            bytes.resize(START as usize + 18, 0);
        } else {
            bytes.extend(long(START + 40));
            bytes.resize(START as usize + 40, 0);
            bytes.extend(value);
        }
        bytes
    }

    #[test]
    fn numbers_of_every_type_are_read_in_both_byte_orders() {
        let big: [(u16, &[u8]); 13] = [
            (1, &[6]),
            (3, &[0, 6]),
            (4, &[0, 0, 0, 6]),
            (5, &[0, 0, 0, 12, 0, 0, 0, 2]),
            (6, &[6]),
            (8, &[0, 6]),
            (9, &[0, 0, 0, 6]),
            (10, &[0, 0, 0, 6, 0, 0, 0, 1]),
            (11, &6f32.to_be_bytes()),
            (12, &6f64.to_be_bytes()),
            (13, &[0, 0, 0, 6]),
            (16, &[0, 0, 0, 0, 0, 0, 0, 6]),
            (3, &[0, 6, 0, 1, 0, 1]),
        ];
        for (kind, value) in big {
            let word = if matches!(kind, 5 | 10) { 4 } else { size(kind).expect("a type") };
            let little: Vec<u8> = value.chunks(word).flat_map(|word| word.iter().rev().copied()).collect();
            for (big_endian, value) in [(true, value), (false, &little)] {
                let bytes = exif(big_endian, ORIENTATION, kind, value);
                let found = Directory::first(&bytes).and_then(|directory| directory.find(ORIENTATION)?.number());
                assert_eq!(found, Some(6.0), "type {kind}, big-endian: {big_endian}");
            }
        }
    }

    #[test]
    fn text_is_no_number() {
        let bytes = exif(true, ORIENTATION, 2, b"6\0");
        assert_eq!(Directory::first(&bytes).and_then(|directory| directory.find(ORIENTATION)?.number()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in 0usize..4) {
            let magic: &[u8] = [b"II*\0".as_slice(), b"MM\0*", b"II+\0", b"MM\0+"][magic];
            let bytes = [magic, &bytes].concat();
            if let Some(directory) = Directory::first(&bytes) {
                for tag in [0, ORIENTATION] {
                    let _ = directory.find(tag).and_then(|values| values.number());
                }
            }
        }
    }
}
