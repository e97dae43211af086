//! TIFF: every page of a file, from its directory to upright pixels.
//!
//! One way for all: the directory says how the pixels lie (`layout`), each strip or tile is unpacked to rows of samples
//! (`unpack`, `fax`, `jpeg`), the samples become 16 bits (`samples`) and their colours RGB (`color`).

mod color;
mod directory;
mod fax;
mod jpeg;
mod layout;
mod samples;
#[cfg(test)]
mod tests;
mod unpack;

use crate::{PageOptions, color::Sample, orientation::choose, xmp};
use deepseek_ocr_core::{BoxError, Error, Result};
use directory::{Directory, File, tag};
use image::{DynamicImage, ImageBuffer, Pixel, Rgb, Rgba, metadata::Orientation};
use layout::{Compression, Layout};
use samples::{Samples, floats};
use std::fmt::Display;
use unpack::{Extent, Packing, unpack, unpredict};

/// The number of pages; reduced copies and masks are none.
pub(crate) fn pages(bytes: &[u8]) -> usize {
    File::new(bytes).map_or(0, |file| file.pages().directories.len())
}

/// A page as the file has it.
pub(crate) struct Page {
    pub(crate) image: DynamicImage,
    pub(crate) orientation: Orientation,
    /// What of the file cannot be read.
    pub(crate) damage: Option<String>,
}

/// The page that `options` ask for.
pub(crate) fn decode(bytes: &[u8], options: &PageOptions) -> Result<Page> {
    let pages = File::new(bytes).ok_or_else(|| truncated("the data ends within the header"))?.pages();
    let count = pages.directories.len();
    let directory = pages.directories.get(options.page).ok_or_else(|| truncated(format!("it has {count} pages")))?;
    if !directory.is_page() && directory.has(tag::SUB_IFDS) {
        return Err(unsupported("a page in a directory below that of its reduced copy, as raw files of cameras do"));
    }
    let layout = Layout::new(directory, options)?;
    options.check(layout.width, layout.height, layout.decoded_bytes())?;
    let mut reader = Reader { directory, layout, damage: None };
    if let Samples::Float { bits, .. } = reader.layout.samples {
        reader.layout.samples = Samples::Float { bits, white: reader.white()? };
    }
    let image = reader.image()?;
    let stated = directory.number(tag::ORIENTATION).ok().flatten().map(|value| value as f64);
    let orientation = choose(stated, || xmp::orientation(directory.bytes(tag::XMP).ok()?));
    let lost = || pages.cut.then(|| format!("no page can be found behind page {count}"));
    Ok(Page { image, orientation, damage: reader.damage.or_else(lost) })
}

/// Reads the strips or tiles of a page.
struct Reader<'a> {
    directory: &'a Directory<'a>,
    layout: Layout,
    /// What was first seen to be wrong with the pixels.
    damage: Option<String>,
}

/// Rows of a strip or tile, of one plane or of all samples.
struct Rows {
    bytes: Vec<u8>,
    stride: usize,
    big_endian: bool,
}

impl<'a> Reader<'a> {
    fn image(&mut self) -> Result<DynamicImage> {
        let Some(opacity) = self.layout.opacity else {
            return Ok(self.painted(|color, _| Rgb(color.map(Sample::to_byte)))?.into());
        };
        let opaque = u32::from(self.layout.color.opaque());
        let painted = self.painted(|[red, green, blue], samples| {
            let alpha = (u32::from(samples[opacity.index]) * u32::from(u16::MAX) / opaque) as u16;
            let separate = |value| if opacity.associated { separated(value, alpha) } else { value };
            Rgba([separate(red), separate(green), separate(blue), alpha])
        });
        Ok(painted?.into())
    }

    /// The picture whose pixels are made of their colours and all their samples.
    fn painted<P: Pixel>(&mut self, pixel: impl Fn([u16; 3], &[u16]) -> P) -> Result<ImageBuffer<P, Vec<P::Subpixel>>> {
        let (width, height) = (self.layout.width, self.layout.height);
        let mut image = ImageBuffer::new(width, height);
        let mut row = vec![0; self.layout.chunk.0.min(width) as usize * self.layout.samples_per_pixel];
        let planes = if self.layout.planar { self.layout.samples_per_pixel } else { 1 };
        let (across, down) = self.layout.grid();
        for (cy, cx) in (0..down).flat_map(|cy| (0..across).map(move |cx| (cy, cx))) {
            let (left, top) = (cx * self.layout.chunk.0, cy * self.layout.chunk.1);
            let columns = self.layout.chunk.0.min(width - left) as usize;
            let planes: Vec<Rows> = (0..planes).map(|plane| self.rows(cx, cy, plane)).collect::<Result<_>>()?;
            for y in 0..self.layout.chunk.1.min(height - top) {
                for (plane, rows) in planes.iter().enumerate() {
                    let bytes = &rows.bytes[y as usize * rows.stride..][..rows.stride];
                    let out = row.iter_mut().skip(plane).step_by(planes.len());
                    self.layout.samples.read(bytes, rows.big_endian, out);
                }
                let channels = usize::from(P::CHANNEL_COUNT);
                let start = ((top + y) as usize * width as usize + left as usize) * channels;
                let out = image.as_mut()[start..start + columns * channels].chunks_exact_mut(channels);
                let samples = self.layout.samples_per_pixel;
                let colors = |color, samples: &[u16]| pixel(color, samples);
                self.layout.color.paint(row[..columns * samples].chunks_exact(samples).zip(out), colors);
            }
        }
        Ok(image)
    }

    /// The visible rows of a strip or tile.
    fn rows(&mut self, cx: u32, cy: u32, plane: usize) -> Result<Rows> {
        let layout = &self.layout;
        let (across, down) = layout.grid();
        let data = self.data((plane * down as usize + cy as usize) * across as usize + cx as usize)?;
        let (columns, rows) = (layout.chunk.0, layout.chunk.1.min(layout.height - cy * layout.chunk.1));
        let stride = layout.stride();
        let big_endian = self.directory.file.big_endian;
        let packing = match layout.compression {
            Compression::Packed(packing) => packing,
            Compression::Jpeg => {
                let visible = (columns.min(layout.width - cx * columns) as usize, rows as usize);
                let bytes = self.jpeg(data, visible)?;
                return Ok(Rows { bytes, stride, big_endian });
            }
        };
        let subsampling = layout.subsampling;
        let length = match subsampling {
            (1, 1) => stride * rows as usize,
            (h, v) => columns.div_ceil(h) as usize * rows.div_ceil(v) as usize * (h * v + 2) as usize,
        };
        let extent = Extent { columns, rows, bytes: length };
        let data = &data[..data.len().min(most_packed(length))];
        let (mut bytes, damage) = match layout.reversed {
            true => unpack(&data.iter().map(|byte| byte.reverse_bits()).collect::<Vec<_>>(), packing, extent)?,
            false => unpack(data, packing, extent)?,
        };
        if subsampling != (1, 1) {
            bytes = spread(&bytes, columns as usize, rows as usize, subsampling);
        }
        let big_endian = unpredict(&mut bytes, stride, layout.predictor, big_endian);
        self.damage = self.damage.take().or(damage);
        Ok(Rows { bytes, stride, big_endian })
    }

    /// The rows of a strip or tile that is a JPEG stream, `visible` of them across and down.
    fn jpeg(&mut self, data: &[u8], visible: (usize, usize)) -> Result<Vec<u8>> {
        /// More than any tables need.
        const MOST_TABLES: usize = 1 << 16;
        let (chunk, step) = (self.layout.chunk, self.layout.step());
        let tables = self.directory.bytes(tag::JPEG_TABLES)?;
        if tables.len() > MOST_TABLES {
            return Err(broken(format!("{} bytes of JPEG tables", tables.len())));
        }
        let pixels = chunk.0 as usize * chunk.1 as usize;
        let data = &data[..data.len().min(most_packed(pixels.saturating_mul(step)) + MOST_TABLES)];
        // Writers round up to whole blocks.
        let most = |side: u32| side.next_multiple_of(16) as usize;
        let found = jpeg::decode(tables, data, (most(chunk.0), most(chunk.1)))?;
        if found.components != step || found.width < visible.0 || found.height < visible.1 {
            return Err(broken(format!(
                "a strip or tile of {} x {} pixels with {step} samples holds {} x {} with {}",
                visible.0, visible.1, found.width, found.height, found.components
            )));
        }
        let stride = self.layout.stride();
        let mut bytes = vec![0; stride * visible.1];
        let rows = found.samples.chunks_exact(found.width * step);
        for (out, row) in bytes.chunks_exact_mut(stride).zip(rows) {
            let length = out.len().min(row.len());
            out[..length].copy_from_slice(&row[..length]);
        }
        self.damage = self.damage.take().or(found.damage.map(|damage| damage.to_string()));
        Ok(bytes)
    }

    /// The stored bytes of a strip or tile.
    fn data(&self, index: usize) -> Result<&'a [u8]> {
        let (offset, length) = self.layout.places[index];
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let data = self.directory.file.bytes.get(start..).unwrap_or_default();
        let length = length.map_or(data.len(), |length| usize::try_from(length).unwrap_or(usize::MAX));
        match data.get(..length) {
            Some(data) if !data.is_empty() => Ok(data),
            // What lies behind the pixels of uncompressed data does not matter.
            _ if self.layout.compression == Compression::Packed(Packing::None) => Ok(data),
            _ => Err(truncated("a strip or tile lies behind the end of the data")),
        }
    }

    /// The floating-point sample that is white: 1, or 255 where the samples say so.
    fn white(&mut self) -> Result<f64> {
        let (across, down) = self.layout.grid();
        let planes = if self.layout.planar { self.layout.samples_per_pixel } else { 1 };
        let bits = self.layout.samples.bits();
        let mut most = 0.0f64;
        for (plane, cy, cx) in
            (0..planes).flat_map(|p| (0..down).flat_map(move |y| (0..across).map(move |x| (p, y, x))))
        {
            let rows = self.rows(cx, cy, plane)?;
            most = floats(&rows.bytes, bits, rows.big_endian).filter(|value| value.is_finite()).fold(most, f64::max);
        }
        match most {
            // Filters shoot over the mark.
            ..=2.0 => Ok(1.0),
            64.0..256.0 => Ok(255.0),
            _ => Err(unsupported(format!("floating-point samples up to {most}, white being neither 1 nor 255"))),
        }
    }
}

/// The most bytes that `length` bytes are packed to, so that strips that share their data take no time without end: the
/// widest code of faxes has 9 bits for two pixels.
fn most_packed(length: usize) -> usize {
    length.saturating_mul(8).saturating_add(1 << 12)
}

/// A value that was multiplied by its alpha, without that.
fn separated(value: u16, alpha: u16) -> u16 {
    let (value, alpha, max) = (u32::from(value), u32::from(alpha), u32::from(u16::MAX));
    // Where nothing is to be seen, nothing is known of the colour either.
    (value * max + alpha / 2).checked_div(alpha).map_or(value, |value| value.min(max)) as u16
}

/// Subsampled YCbCr, blocks of luma samples with their two differences, to three samples for each pixel.
fn spread(blocks: &[u8], columns: usize, rows: usize, (across, down): (u32, u32)) -> Vec<u8> {
    let (across, down) = (across as usize, down as usize);
    let size = across * down + 2;
    let per_row = columns.div_ceil(across);
    let mut out = Vec::with_capacity(columns * rows * 3);
    for y in 0..rows {
        for x in 0..columns {
            let block = &blocks[(y / down * per_row + x / across) * size..][..size];
            out.extend([block[y % down * across + x % across], block[size - 2], block[size - 1]]);
        }
    }
    out
}

/// The data breaks the rules of the format.
fn broken(reason: impl Into<BoxError>) -> Error {
    Error::ImageDecode { format: "TIFF", source: reason.into() }
}

/// The data ends too early.
fn truncated(reason: impl Display) -> Error {
    Error::ImageTruncated { format: "TIFF", reason: reason.to_string() }
}

/// The format has this feature, and it is not read.
fn unsupported(feature: impl Into<String>) -> Error {
    Error::ImageUnsupported { format: "TIFF", feature: feature.into() }
}
