//! JPEG to pixels, equal to those of libjpeg to the bit: baseline, extended sequential and progressive pictures of 8 bits.
//!
//! The decoder under `image` returns wrong pixels for layouts that real files have, and none says what a damaged file lacks; DESIGN
//! tells more. The standard is ITU-T T.81; where it leaves a choice (colour spaces, upsampling), libjpeg-turbo's is taken.

mod color;
mod entropy;
mod header;
mod idct;
mod scan;
mod upsample;

use color::Space;
use deepseek_ocr_core::{Error, Result};
use header::{Frame, Tables};
use std::fmt;

/// The name of the format in messages.
const FORMAT: &str = "JPEG";

/// The most scans that are read. Real files have about ten; a file of thousands of empty ones costs hours.
const MAX_SCANS: usize = 256;

/// A JPEG whose header was read, and whose pixels were not.
pub(crate) struct Jpeg<'a> {
    bytes: &'a [u8],
    /// Where the segment of the first scan begins.
    at: usize,
    tables: Tables,
    frame: Frame,
}

/// The decoded components of a picture, and what is missing of them.
pub(crate) struct Picture {
    frame: Frame,
    space: Space,
    /// Whether the file ends without its end-of-image marker.
    pub(crate) end_missing: bool,
    /// Why some of the pixels are arbitrary.
    pub(crate) damage: Option<Damage>,
}

/// Why some pixels of a picture cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Coded units (groups of blocks) of a scan.
    Units { present: u64, expected: u64 },
    /// Codes that do not exist, or coefficients outside of their block: what follows them may be wrong or displaced.
    Codes,
    /// Bytes of a scan that are left over: somewhere before them the data fell out of step.
    Surplus(usize),
    /// Components without any scan.
    Components,
    /// A progressive picture that stops short of its full precision.
    Refinements,
    /// A segment between two scans.
    Segment(&'static str),
}

impl<'a> Jpeg<'a> {
    /// Reads everything in front of the first scan.
    ///
    /// # Errors
    /// If the header is cut off, breaks the standard, or asks for a coding that is not read.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self> {
        let mut tables = Tables::default();
        let mut frame = None;
        let mut at = 0;
        loop {
            let (marker, body) = next_marker(bytes, at).ok_or_else(header_cut)?;
            if is_standalone(marker) {
                at = body;
                continue;
            }
            if marker == END_OF_IMAGE {
                return Err(invalid("no scan"));
            }
            let segment = segment(bytes, body).ok_or_else(header_cut)?;
            let end = body + 2 + segment.len();
            match marker {
                START_OF_SCAN => {
                    let mut frame: Frame = frame.ok_or_else(|| invalid("a scan without a frame"))?;
                    if frame.height == 0 {
                        frame.height = number_of_lines(bytes, end).unwrap_or(0);
                    }
                    return Ok(Self { bytes, at, tables, frame });
                }
                0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                    if frame.is_some() {
                        return Err(invalid("two frames"));
                    }
                    frame = Some(Frame::read(marker, segment)?);
                }
                _ => tables.read(marker, segment).map_err(invalid)?,
            }
            at = end;
        }
    }

    /// Width and height in pixels; a side may be zero.
    pub(crate) fn dimensions(&self) -> (u32, u32) {
        (self.frame.width as u32, self.frame.height as u32)
    }

    /// Components of a pixel: 1, 3 or 4.
    pub(crate) fn components(&self) -> usize {
        self.frame.components.len()
    }

    /// Bytes that [`decode`](Self::decode) holds for the components, without the coefficients of a progressive picture.
    pub(crate) fn plane_bytes(&self) -> u64 {
        self.frame.plane_bytes()
    }

    /// Decodes as much as there is.
    ///
    /// # Errors
    /// If nothing can be decoded because the first scan lacks its tables.
    pub(crate) fn decode(mut self) -> Result<Picture> {
        let space = self.tables.space(&self.frame);
        self.frame.allocate();
        let mut damage = None;
        let (mut at, mut scans) = (self.at, 0);
        let end_missing = loop {
            let Some((marker, body)) = next_marker(self.bytes, at) else { break true };
            if is_standalone(marker) {
                at = body;
                continue;
            }
            if marker == END_OF_IMAGE {
                break false;
            }
            let Some(segment) = segment(self.bytes, body) else { break true };
            at = body + 2 + segment.len();
            let outcome = match marker {
                START_OF_SCAN if scans == MAX_SCANS => Err("more scans than any picture needs"),
                START_OF_SCAN => {
                    scans += 1;
                    scan::read(&mut self.frame, &self.tables, segment, &self.bytes[at..]).map(|end| {
                        at += end.length;
                        damage = damage.take().or(end.damage);
                    })
                }
                _ => self.tables.read(marker, segment),
            };
            match outcome {
                Err(reason) if scans <= 1 && marker == START_OF_SCAN => return Err(invalid(reason)),
                Err(reason) => {
                    damage.get_or_insert(Damage::Segment(reason));
                    break false;
                }
                Ok(()) => {}
            }
        };
        let damage = damage.or_else(|| self.frame.missing());
        self.frame.render();
        Ok(Picture { frame: self.frame, space, end_missing, damage })
    }
}

impl Picture {
    /// Red, green and blue of each pixel.
    pub(crate) fn rgb(&self) -> Vec<u8> {
        upsample::interleave(&self.frame, 3, |rows, out| self.space.convert(rows, out))
    }

    /// The components of each pixel as they are coded.
    pub(crate) fn samples(&self) -> Vec<u8> {
        upsample::interleave(&self.frame, self.frame.components.len(), |rows, out| {
            for (component, row) in rows.iter().enumerate() {
                for (pixel, &sample) in out.chunks_exact_mut(rows.len()).zip(*row) {
                    pixel[component] = sample;
                }
            }
        })
    }
}

const START_OF_IMAGE: u8 = 0xD8;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;
const NUMBER_OF_LINES: u8 = 0xDC;

/// Markers without a segment: restarts, the start of an image, and a reserved one.
fn is_standalone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xD0..=START_OF_IMAGE)
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

/// The height that a picture states behind its first scan, if its frame does not.
fn number_of_lines(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let (marker, body) = next_marker(bytes, at)?;
        match marker {
            NUMBER_OF_LINES => return be16(segment(bytes, body)?).map(usize::from),
            _ if is_standalone(marker) => at = body,
            _ => return None,
        }
    }
}

fn be16(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.first_chunk()?))
}

fn header_cut() -> Error {
    Error::ImageTruncated { format: FORMAT, reason: "the data ends within the header".into() }
}

fn invalid(reason: &'static str) -> Error {
    Error::ImageDecode { format: FORMAT, source: reason.into() }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Units { present, expected } => write!(f, "{present} of {expected} coded units can be read"),
            Self::Codes => f.write_str("the coded data breaks its code, what follows may be wrong or displaced"),
            Self::Surplus(bytes) => {
                write!(f, "{bytes} bytes of a scan are left over, its pixels may be wrong or displaced")
            }
            Self::Components => f.write_str("whole colour components are missing"),
            Self::Refinements => f.write_str("scans of a progressive picture are missing"),
            Self::Segment(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests;
