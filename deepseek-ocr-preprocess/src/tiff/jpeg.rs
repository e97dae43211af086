//! JPEG within TIFF: each strip or tile is a stream of its own, whose tables the directory may hold.

use super::{broken, truncated};
use crate::{ending::Ending, jpeg};
use deepseek_ocr_core::Result;
use zune_jpeg::{JpegDecoder, zune_core::bytestream::ZCursor, zune_core::options::DecoderOptions};

const START_OF_IMAGE: [u8; 2] = [0xFF, 0xD8];
const END_OF_IMAGE: [u8; 2] = [0xFF, 0xD9];

/// Samples of 8 bits, pixel by pixel, as the stream holds them: what colours they mean is TIFF's to say.
pub(super) struct Samples {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) components: usize,
    pub(super) samples: Vec<u8>,
}

/// The stream of a strip or tile with the tables that the directory holds, and what is wrong with it.
pub(super) fn merged(tables: &[u8], data: &[u8]) -> Result<(Vec<u8>, Option<String>)> {
    let tables = tables.strip_prefix(&START_OF_IMAGE).unwrap_or_default();
    let tables = tables.strip_suffix(&END_OF_IMAGE).unwrap_or(tables);
    let data = data.strip_prefix(&START_OF_IMAGE).ok_or_else(|| broken("a strip is no JPEG stream"))?;
    let stream = [&START_OF_IMAGE, tables, data].concat();
    match jpeg::ending(&stream) {
        Ending::Complete | Ending::MarkMissing => Ok((stream, None)),
        Ending::Damaged(cut) => Ok((stream, Some(cut.to_string()))),
        Ending::Cut(cut) => Err(truncated(cut)),
    }
}

/// The samples of a complete JPEG stream, which may have at most `most` pixels across and down.
pub(super) fn decode(stream: &[u8], most: (usize, usize)) -> Result<Samples> {
    let options = DecoderOptions::default().set_strict_mode(false).set_max_width(most.0).set_max_height(most.1);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(stream), options);
    decoder.decode_headers().map_err(broken)?;
    let (Some((width, height)), Some(color)) = (decoder.dimensions(), decoder.input_colorspace()) else {
        return Err(broken("a strip is a JPEG stream without a header"));
    };
    // Asking for the colours that are stored keeps the samples as they are.
    decoder.set_options(options.jpeg_set_out_colorspace(color));
    let samples = decoder.decode().map_err(broken)?;
    Ok(Samples { width, height, components: color.num_components(), samples })
}
