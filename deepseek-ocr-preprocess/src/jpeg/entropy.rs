//! The entropy-coded data of a sequential JPEG, read only as far as it takes to pass over it.

use super::next_marker;

/// Length of the codes that are tabulated; nearly all codes of real files are this short.
const SHORT_BITS: u8 = 9;

/// Coefficients of an 8 x 8 block.
const BLOCK: usize = 64;

/// A canonical prefix code: how many codes there are of each length, and their values in order.
pub(super) struct Huffman {
    pub(super) counts: [u8; 16],
    pub(super) values: Vec<u8>,
}

impl Huffman {
    /// The length and the value of the code that `word` begins with.
    fn decode(&self, word: u16) -> Option<(u8, u8)> {
        let (mut first, mut offset) = (0u32, 0usize);
        for (length, &count) in (1u8..).zip(&self.counts) {
            let index = (u32::from(word) >> (16 - length)).wrapping_sub(first);
            if index < u32::from(count) {
                return self.values.get(offset + index as usize).map(|&value| (length, value));
            }
            offset += usize::from(count);
            first = (first + u32::from(count)) << 1;
        }
        None
    }
}

/// A prefix code with its short codes tabulated.
pub(super) struct Lookup<'a> {
    code: &'a Huffman,
    short: [Option<(u8, u8)>; 1 << SHORT_BITS],
}

impl<'a> Lookup<'a> {
    pub(super) fn new(code: &'a Huffman) -> Self {
        let short = |prefix: usize| {
            let found = code.decode((prefix << (16 - SHORT_BITS)) as u16);
            found.filter(|&(length, _)| length <= SHORT_BITS)
        };
        Self { code, short: std::array::from_fn(short) }
    }

    fn decode(&self, word: u16) -> Option<(u8, u8)> {
        self.short[usize::from(word >> (16 - SHORT_BITS))].or_else(|| self.code.decode(word))
    }
}

/// Entropy-coded data up to the next marker, bit by bit.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    /// The lowest `left` bits are still to be read.
    buffer: u64,
    left: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, at: 0, buffer: 0, left: 0 }
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
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.left += 8;
        }
    }

    fn skip(&mut self, bits: u8) -> Option<()> {
        if self.left < u32::from(bits) {
            self.fill();
        }
        self.left = self.left.checked_sub(u32::from(bits))?;
        Some(())
    }

    fn symbol(&mut self, code: &Lookup<'_>) -> Option<u8> {
        if self.left < 16 {
            self.fill();
        }
        let word = if self.left < 16 { self.buffer << (16 - self.left) } else { self.buffer >> (self.left - 16) };
        let (length, value) = code.decode(word as u16)?;
        self.skip(length)?;
        Some(value)
    }

    /// Passes over one block: the DC difference, then runs of zeros and AC values up to the end-of-block symbol.
    pub(super) fn skip_block(&mut self, dc: &Lookup<'_>, ac: &Lookup<'_>) -> Option<()> {
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

    /// Drops the padding and passes over a restart marker.
    pub(super) fn restart(&mut self) -> Option<()> {
        self.left = 0;
        let (marker, next) = next_marker(self.data, self.at)?;
        self.at = next;
        (0xD0..=0xD7).contains(&marker).then_some(())
    }
}
