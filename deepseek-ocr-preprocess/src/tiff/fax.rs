//! The codings of fax machines: T.4 in one and two dimensions, T.6, and the modified Huffman coding of TIFF.
//!
//! A row is the list of the columns at which its colour changes, first to black: it begins white.

use super::{broken, truncated, unsupported};
use deepseek_ocr_core::Result;
use fax::{
    BitReader,
    maps::{Mode, black, mode, white},
};

/// Zeros at the start of an end-of-line mark, at least.
const EOL_ZEROS: usize = 11;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Runs only; each row starts at a multiple of so many bits.
    Aligned(usize),
    /// T.4, group 3: rows between marks; with a bit behind each mark that names the row's coding where there are two.
    Group3 { two_dimensional: bool },
    /// T.6, group 4.
    Group4,
}

/// `rows` rows of `columns` bits, black set, each padded to bytes; and what could not be read.
pub(super) fn decode(data: &[u8], coding: Coding, columns: u32, rows: u32) -> Result<(Vec<u8>, Option<String>)> {
    let mut decoder = Decoder { bits: Bits { data, at: 0 }, columns, row: Vec::new(), above: Vec::new() };
    let stride = columns.div_ceil(8) as usize;
    let mut out = vec![0; stride * rows as usize];
    let mut spoiled = 0;
    for (number, bytes) in out.chunks_exact_mut(stride).enumerate() {
        match decoder.next_row(coding)? {
            Row::Whole => {}
            Row::Spoiled => spoiled += 1,
            Row::End => return Ok((out, Some(format!("the fax data ends after {number} of {rows} rows")))),
        }
        decoder.fill(bytes);
        std::mem::swap(&mut decoder.row, &mut decoder.above);
    }
    Ok((out, (spoiled > 0).then(|| format!("{spoiled} of {rows} fax rows cannot be read in full"))))
}

enum Row {
    Whole,
    /// Something in it cannot be read, but the start of the next one is known.
    Spoiled,
    /// The mark that ends the data stands in its place.
    End,
}

struct Decoder<'a> {
    bits: Bits<'a>,
    columns: u32,
    row: Vec<u32>,
    above: Vec<u32>,
}

impl Decoder<'_> {
    fn next_row(&mut self, coding: Coding) -> Result<Row> {
        self.row.clear();
        let row = match coding {
            Coding::Aligned(unit) => {
                self.bits.at = self.bits.at.next_multiple_of(unit);
                self.runs()
            }
            Coding::Group4 if self.bits.peek(12) == Some(1) => Some(Row::End),
            Coding::Group4 => self.changes()?,
            Coding::Group3 { two_dimensional } => {
                let mut from_runs = true;
                let mut marks = 0;
                while self.bits.skip_mark() {
                    from_runs = !two_dimensional || self.bits.take(1) == 1;
                    marks += 1;
                    if marks == 2 {
                        return Ok(Row::End);
                    }
                }
                let row = if from_runs { self.runs() } else { self.changes()? };
                row.or_else(|| self.bits.seek_mark().then_some(Row::Spoiled))
            }
        };
        let left = (self.bits.data.len() * 8).checked_sub(self.bits.at);
        match (row, left) {
            (Some(row), Some(_)) => Ok(row),
            (None, Some(16..)) => Err(broken("the fax data holds a code that does not exist")),
            _ => Err(truncated("the fax data ends within a row")),
        }
    }

    /// A row of runs, white and black in turn, unless a code does not exist.
    fn runs(&mut self) -> Option<Row> {
        let mut at = 0u32;
        let mut is_black = false;
        while at < self.columns {
            at = at.saturating_add(self.run(is_black)?);
            self.change(at);
            is_black = !is_black;
        }
        Some(if at == self.columns { Row::Whole } else { Row::Spoiled })
    }

    /// A row of changes against the row above it, unless a code does not exist.
    fn changes(&mut self) -> Result<Option<Row>> {
        let columns = i64::from(self.columns);
        // Before the first change the position is one before the first column.
        let mut at = -1i64;
        let mut is_black = false;
        let mut index = 0;
        while at < columns {
            index = self.next_above(index, at, is_black);
            let above = |index: usize| self.above.get(index).map_or(columns, |&column| i64::from(column));
            let start = self.bits.at;
            match mode::decode(&mut self.bits) {
                Some(Mode::Pass) => at = above(index + 1),
                Some(Mode::Vertical(delta)) => {
                    let next = above(index) + i64::from(delta);
                    if next < at.max(0) {
                        return Ok(None);
                    }
                    at = next;
                    self.change(at.min(columns) as u32);
                    is_black = !is_black;
                }
                Some(Mode::Horizontal) => {
                    for color in [is_black, !is_black] {
                        let Some(run) = self.run(color) else { return Ok(None) };
                        at = at.max(0) + i64::from(run);
                        self.change(at.min(columns) as u32);
                    }
                }
                Some(Mode::Extension) => return Err(unsupported("the uncompressed mode of CCITT T.4 and T.6")),
                Some(Mode::EOF) | None => {
                    self.bits.at = start;
                    return Ok(None);
                }
            }
        }
        Ok(Some(if at == columns { Row::Whole } else { Row::Spoiled }))
    }

    /// The index of the first change in the row above that lies behind `at` and leaves the colour; the search
    /// starts near `index`.
    fn next_above(&self, mut index: usize, at: i64, is_black: bool) -> usize {
        let behind = |index: usize| self.above.get(index).is_none_or(|&column| i64::from(column) > at);
        while index > 0 && behind(index - 1) {
            index -= 1;
        }
        while !behind(index) {
            index += 1;
        }
        index + usize::from((index % 2 == 1) != is_black)
    }

    /// The length of a run: multiples of 64, then the rest.
    fn run(&mut self, is_black: bool) -> Option<u32> {
        let mut length = 0;
        loop {
            let start = self.bits.at;
            let code = if is_black { black::decode(&mut self.bits) } else { white::decode(&mut self.bits) };
            let Some(code) = code.map(u32::from) else {
                self.bits.at = start;
                return None;
            };
            length += code;
            if code < 64 {
                return Some(length);
            }
            // Longer than the row: the codes are spoiled.
            if length > self.columns.saturating_add(64) {
                return None;
            }
        }
    }

    /// The colour changes at `column`, never before the last change; two changes at one place are none.
    fn change(&mut self, column: u32) {
        if self.row.last() == Some(&column) {
            self.row.pop();
        } else if column < self.columns {
            self.row.push(column);
        }
    }

    fn fill(&self, bytes: &mut [u8]) {
        for pair in self.row.chunks(2) {
            let (start, end) = (pair[0] as usize, pair.get(1).map_or(self.columns as usize, |&end| end as usize));
            // The bits of a byte from a column on.
            let from = |column: usize| 0xFFu8 >> (column % 8);
            let (first, last) = (start / 8, end / 8);
            if first == last {
                bytes[first] |= from(start) & !from(end);
                continue;
            }
            bytes[first] |= from(start);
            bytes[first + 1..last].fill(0xFF);
            if end % 8 > 0 {
                bytes[last] |= !from(end);
            }
        }
    }
}

/// Bits, the highest of a byte first; zeros follow the last.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u8) -> u16 {
        let value = self.peek(count).unwrap_or(0);
        self.at += usize::from(count);
        value
    }

    /// Goes behind an end-of-line mark and the zeros before it, if they come next.
    fn skip_mark(&mut self) -> bool {
        let zeros = self.zeros();
        let found = zeros >= EOL_ZEROS && self.at + zeros < self.data.len() * 8;
        if found {
            self.at += zeros + 1;
        }
        found
    }

    /// Goes to the next end-of-line mark, if there is one.
    fn seek_mark(&mut self) -> bool {
        while self.at < self.data.len() * 8 {
            let zeros = self.zeros();
            if zeros >= EOL_ZEROS {
                return self.at + zeros < self.data.len() * 8;
            }
            self.at += zeros + 1;
        }
        false
    }

    /// How many zeros come next.
    fn zeros(&self) -> usize {
        let mut zeros = 0;
        while self.at + zeros < self.data.len() * 8 {
            let at = self.at + zeros;
            let byte = self.data[at / 8] << (at % 8);
            if byte != 0 {
                return zeros + byte.leading_zeros() as usize;
            }
            zeros += 8 - at % 8;
        }
        zeros
    }
}

impl BitReader for Bits<'_> {
    type Error = ();

    fn peek(&self, bits: u8) -> Option<u16> {
        let byte = |i: usize| u32::from(self.data.get(self.at / 8 + i).copied().unwrap_or(0));
        let window = (byte(0) << 16 | byte(1) << 8 | byte(2)) << (8 + self.at % 8);
        (1..=16).contains(&bits).then(|| (window >> (32 - u32::from(bits))) as u16)
    }

    fn consume(&mut self, bits: u8) -> Result<(), ()> {
        self.at += usize::from(bits);
        Ok(())
    }

    fn bits_to_byte_boundary(&self) -> u8 {
        ((8 - self.at % 8) % 8) as u8
    }
}
