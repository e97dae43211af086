//! Compressed strips and tiles to the bytes of their rows.

use super::{broken, fax, truncated};
use deepseek_ocr_core::Result;
use miniz_oxide::inflate::{TINFLStatus, decompress_slice_iter_to_slice};
use std::iter;
use weezl::{BitOrder, LzwStatus, decode::Configuration};

/// Compressions whose result is the bytes of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Lzw,
    Deflate,
    PackBits,
    Fax(fax::Coding),
}

/// `columns` and `rows` of a strip or tile, and the bytes of its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) bytes: usize,
}

/// The first bytes that `data` unpacks to, and what is wrong with them.
pub(super) fn unpack(data: &[u8], packing: Packing, extent: Extent) -> Result<(Vec<u8>, Option<String>)> {
    let out = match packing {
        Packing::None => {
            data.get(..extent.bytes).ok_or_else(|| truncated("a strip holds less than its rows"))?.to_vec()
        }
        Packing::Lzw => lzw(data, extent.bytes)?,
        Packing::Deflate => return deflate(data, extent.bytes),
        Packing::PackBits => pack_bits(data, extent.bytes)?,
        Packing::Fax(coding) => return fax::decode(data, coding, extent.columns, extent.rows),
    };
    Ok((out, None))
}

fn lzw(mut data: &[u8], length: usize) -> Result<Vec<u8>> {
    // The first code is 256. Before TIFF 5.0 bits were taken from the lowest on, and codes grew one later.
    let old = matches!(data, [0, second, ..] if second & 1 == 1);
    let configuration =
        if old { Configuration::new(BitOrder::Lsb, 8) } else { Configuration::with_tiff_size_switch(BitOrder::Msb, 8) };
    let mut decoder = configuration.with_yield_on_full_buffer(true).build();
    let mut out = vec![0; length];
    let mut filled = 0;
    while filled < length {
        let step = decoder.decode_bytes(data, &mut out[filled..]);
        data = &data[step.consumed_in..];
        filled += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) => {}
            Ok(LzwStatus::Done | LzwStatus::NoProgress) if filled < length => {
                return Err(truncated("LZW data holds less than its rows"));
            }
            Ok(_) => break,
            Err(error) => return Err(broken(error)),
        }
    }
    Ok(out)
}

fn deflate(data: &[u8], length: usize) -> Result<(Vec<u8>, Option<String>)> {
    let mut out = vec![0; length];
    match decompress_slice_iter_to_slice(&mut out, iter::once(data), true, false) {
        Ok(found) if found == length => Ok((out, None)),
        Err(TINFLStatus::HasMoreOutput) => Ok((out, None)),
        Err(TINFLStatus::Adler32Mismatch) => Ok((out, Some("the checksum of deflated data is wrong".into()))),
        Ok(_) | Err(TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput) => {
            Err(truncated("deflated data holds less than its rows"))
        }
        Err(_) => Err(broken("deflated data breaks the rules")),
    }
}

fn pack_bits(mut data: &[u8], length: usize) -> Result<Vec<u8>> {
    let cut = || truncated("PackBits data holds less than its rows");
    let mut out = Vec::with_capacity(length);
    while out.len() < length {
        let (&head, rest) = data.split_first().ok_or_else(cut)?;
        data = match head {
            0..=127 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(head) + 1).ok_or_else(cut)?;
                out.extend_from_slice(bytes);
                rest
            }
            128 => rest,
            129.. => {
                let (&byte, rest) = rest.split_first().ok_or_else(cut)?;
                out.extend(iter::repeat_n(byte, 257 - usize::from(head)));
                rest
            }
        };
    }
    out.truncate(length);
    Ok(out)
}

/// Takes back what a predictor did to each row; whether the samples are big-endian then.
pub(super) fn unpredict(rows: &mut [u8], stride: usize, predictor: Predictor, big_endian: bool) -> bool {
    match predictor {
        Predictor::None => return big_endian,
        Predictor::Horizontal { bytes, step } => {
            for row in rows.chunks_exact_mut(stride) {
                sum(row, bytes, bytes * step, big_endian);
            }
            return big_endian;
        }
        Predictor::Float { bytes, step } => {
            let mut planes = vec![0; stride];
            for row in rows.chunks_exact_mut(stride) {
                sum(row, 1, step, true);
                planes.copy_from_slice(row);
                let count = stride / bytes;
                for (i, value) in row.chunks_exact_mut(bytes).enumerate() {
                    value.iter_mut().enumerate().for_each(|(plane, byte)| *byte = planes[plane * count + i]);
                }
            }
        }
    }
    true
}

/// What was done to rows before they were compressed; `step` samples make a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// Samples of so many bytes hold the difference to the pixel before.
    Horizontal {
        bytes: usize,
        step: usize,
    },
    /// The highest bytes of all samples come first, and so on, each as the difference to the one a pixel before.
    Float {
        bytes: usize,
        step: usize,
    },
}

/// Adds to each sample of `bytes` bytes the one that lies `back` bytes before it.
fn sum(row: &mut [u8], bytes: usize, back: usize, big_endian: bool) {
    if bytes == 1 {
        for at in back..row.len() {
            row[at] = row[at].wrapping_add(row[at - back]);
        }
        return;
    }
    for at in (back..row.len() / bytes * bytes).step_by(bytes) {
        let mut carry = 0;
        for i in 0..bytes {
            let i = at + if big_endian { bytes - 1 - i } else { i };
            let total = u16::from(row[i]) + u16::from(row[i - back]) + carry;
            row[i] = total as u8;
            carry = total >> 8;
        }
    }
}
