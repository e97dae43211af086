//! JPEG within TIFF: each strip or tile is a stream of its own, whose tables the directory may hold.

use super::broken;
use crate::jpeg::{Damage, Jpeg};
use deepseek_ocr_core::Result;

const START_OF_IMAGE: [u8; 2] = [0xFF, 0xD8];
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// Samples of 8 bits, pixel by pixel, as the stream holds them: what colours they mean is TIFF's to say.
pub(super) struct Samples {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
    pub(super) samples: Vec<u8>,
    pub(super) damage: Option<Damage>,
}

/// The samples of a strip or tile, which may have at most `most` pixels across and down; `tables` is what the directory holds.
pub(super) fn decode(tables: &[u8], data: &[u8], most: (usize, usize)) -> Result<Samples> {
    let tables = tables.strip_prefix(&START_OF_IMAGE).unwrap_or_default();
    let tables = tables.strip_suffix(&END_OF_IMAGE).unwrap_or(tables);
    let data = data.strip_prefix(&START_OF_IMAGE).ok_or_else(|| broken("a strip is no JPEG stream"))?;
    let stream = [&START_OF_IMAGE, tables, data].concat();
    let jpeg = Jpeg::open(&stream)?;
    let (width, height) = jpeg.dimensions();
    let (width, height) = (width as usize, height as usize);
    if width > most.0 || height > most.1 {
        return Err(broken(format!("a strip or tile holds {width} x {height} pixels, more than it has room for")));
    }
    let components = jpeg.components();
    let picture = jpeg.decode()?;
    Ok(Samples { width, height, components, samples: picture.samples(), damage: picture.damage })
}
