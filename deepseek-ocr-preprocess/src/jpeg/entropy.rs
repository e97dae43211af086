//! Entropy-coded data: prefix codes, and the bits up to the next marker.

use super::next_marker;

/// Length of the codes that are tabulated; nearly all codes of real files are this short.
const SHORT_BITS: u32 = 9;

/// Length of the longest codes.
const MAX_BITS: u32 = 16;

/// A canonical prefix code of bytes (T.81, annex C).
#[derive(Clone)]
pub(super) struct Code {
    /// `(length, value)` of the code that a word begins with; length 0 where the code is longer than [`SHORT_BITS`].
    short: Box<[(u8, u8); 1 << SHORT_BITS]>,
    /// For each length, the end of its codes, filled up with zeros to 16 bits, and what leads from a code to its value's index.
    ends: [(u32, i32); MAX_BITS as usize + 1],
    values: Vec<u8>,
}

impl Code {
    /// The code with `counts` codes of 1 to 16 bits, whose values are in the order of the codes; `None` if there is no such code.
    pub(super) fn new(counts: &[u8; 16], values: &[u8]) -> Option<Self> {
        let mut short = Box::new([(0, 0); 1 << SHORT_BITS]);
        let mut ends = [(0, 0); MAX_BITS as usize + 1];
        let (mut code, mut index) = (0u32, 0usize);
        for (length, &count) in (1..=MAX_BITS).zip(counts) {
            ends[length as usize].1 = index as i32 - code as i32;
            for _ in 0..count {
                let value = *values.get(index)?;
                if code >> length != 0 {
                    return None;
                }
                if length <= SHORT_BITS {
                    let width = 1 << (SHORT_BITS - length);
                    short[(code as usize) * width..][..width].fill((length as u8, value));
                }
                code += 1;
                index += 1;
            }
            ends[length as usize].0 = code << (MAX_BITS - length);
            code <<= 1;
        }
        Some(Self { short, ends, values: values.to_vec() })
    }

    /// The length and the value of the code that `word`, of 16 bits, begins with.
    fn find(&self, word: u32) -> Option<(u32, u8)> {
        let (length, value) = self.short[(word >> (MAX_BITS - SHORT_BITS)) as usize];
        if length > 0 {
            return Some((length.into(), value));
        }
        let length = (SHORT_BITS + 1..=MAX_BITS).find(|&length| word < self.ends[length as usize].0)?;
        let index = (word >> (MAX_BITS - length)) as i32 + self.ends[length as usize].1;
        self.values.get(usize::try_from(index).ok()?).map(|&value| (length, value))
    }
}

/// Entropy-coded data up to the next marker, bit by bit.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The highest `left` bits are still to be read; the others are zero.
    buffer: u64,
    left: u32,
    /// Whether some of what was read breaks the code.
    pub(super) broken: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, left: 0, broken: false }
    }

    /// Tops up the buffer; less comes at a marker and at the end.
    fn fill(&mut self) {
        while self.left <= u64::BITS - 8 {
            let Some(&byte) = self.data.get(self.at) else { return };
            if byte == 0xFF {
                if self.data.get(self.at + 1) != Some(&0) {
                    return;
                }
                self.at += 1;
            }
            self.at += 1;
            self.buffer |= u64::from(byte) << (u64::BITS - 8 - self.left);
            self.left += 8;
        }
    }

    /// The value of the next code. Where there is no such code, the bits are passed over and the value is 0, as in libjpeg: mostly
    /// the data falls into step again.
    #[inline]
    pub(super) fn symbol(&mut self, code: &Code) -> Option<u8> {
        if self.left <= MAX_BITS {
            self.fill();
        }
        let Some((length, value)) = code.find((self.buffer >> (u64::BITS - MAX_BITS)) as u32) else {
            self.drop(MAX_BITS + 1)?;
            self.broken = true;
            return Some(0);
        };
        self.drop(length)?;
        Some(value)
    }

    /// The next `count` bits, 16 at most.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        if self.left < count {
            self.fill();
        }
        // A shift in two steps, since a shift by all 64 bits is none.
        let value = (self.buffer >> 1 >> (u64::BITS - 1 - count)) as u32;
        self.drop(count)?;
        Some(value)
    }

    /// A number of `size` bits whose first half is negative (T.81, F.2.2.1).
    #[inline]
    pub(super) fn signed(&mut self, size: u8) -> Option<i32> {
        if size == 0 {
            return Some(0);
        }
        let value = self.take(size.into())? as i32;
        Some(if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value })
    }

    fn drop(&mut self, count: u32) -> Option<()> {
        self.left = self.left.checked_sub(count)?;
        self.buffer <<= count;
        Some(())
    }

    /// The next marker, and whether a restart: then what follows it is read next.
    pub(super) fn restart(&mut self) -> Option<u8> {
        let (marker, next) = next_marker(self.data, self.at)?;
        let number = marker.checked_sub(0xD0).filter(|&number| number < 8)?;
        (self.at, self.buffer, self.left) = (next, 0, 0);
        Some(number)
    }

    /// How many bytes lie between what was read and the next marker, less the zeros and ones that pad it.
    pub(super) fn surplus(&self) -> usize {
        let mut rest = Bits { ..*self };
        let bytes = std::iter::from_fn(|| {
            rest.take(rest.left % 8)?;
            rest.take(8)
        });
        bytes.zip(1..).filter(|(byte, _)| !matches!(byte, 0 | 0xFF)).last().map_or(0, |(_, count)| count)
    }

    /// How many bytes were taken from the data; a scan that ended well has no marker before that.
    pub(super) fn position(&self) -> usize {
        self.at
    }
}

/// The codes that a Motion JPEG means when it defines none: luminance and chrominance of T.81, tables K.3 to K.6.
pub(super) fn standard_codes() -> [[Option<Code>; 4]; 2] {
    const DC: [([u8; 16], [u8; 12]); 2] = {
        let values = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
        [
            ([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], values),
            ([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], values),
        ]
    };
    let code = |counts, values: &[u8]| Code::new(counts, values);
    let dc = |i: usize| code(&DC[i].0, &DC[i].1);
    let ac = |i: usize| code(&AC[i].0, &AC[i].1);
    [[dc(0), dc(1), None, None], [ac(0), ac(1), None, None]]
}

/// Tables K.5 and K.6.
#[rustfmt::skip]
const AC: [([u8; 16], [u8; 162]); 2] = [
    ([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D], [
        0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71, 0x14, 0x32,
        0x81, 0x91, 0xA1, 0x08, 0x23, 0x42, 0xB1, 0xC1, 0x15, 0x52, 0xD1, 0xF0, 0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0A, 0x16,
        0x17, 0x18, 0x19, 0x1A, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44, 0x45,
        0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
        0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92, 0x93, 0x94,
        0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4, 0xB5, 0xB6,
        0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8,
        0xD9, 0xDA, 0xE1, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF1, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
        0xF9, 0xFA,
    ]),
    ([0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], [
        0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22, 0x32, 0x81,
        0x08, 0x14, 0x42, 0x91, 0xA1, 0xB1, 0xC1, 0x09, 0x23, 0x33, 0x52, 0xF0, 0x15, 0x62, 0x72, 0xD1, 0x0A, 0x16, 0x24, 0x34,
        0xE1, 0x25, 0xF1, 0x17, 0x18, 0x19, 0x1A, 0x26, 0x27, 0x28, 0x29, 0x2A, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3A, 0x43, 0x44,
        0x45, 0x46, 0x47, 0x48, 0x49, 0x4A, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5A, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
        0x69, 0x6A, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7A, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x92,
        0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0xA2, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0xA9, 0xAA, 0xB2, 0xB3, 0xB4,
        0xB5, 0xB6, 0xB7, 0xB8, 0xB9, 0xBA, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xD2, 0xD3, 0xD4, 0xD5, 0xD6,
        0xD7, 0xD8, 0xD9, 0xDA, 0xE2, 0xE3, 0xE4, 0xE5, 0xE6, 0xE7, 0xE8, 0xE9, 0xEA, 0xF2, 0xF3, 0xF4, 0xF5, 0xF6, 0xF7, 0xF8,
        0xF9, 0xFA,
    ]),
];
