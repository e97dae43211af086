//! What a directory says about its pixels, checked: everything that is not read is refused here, by name.

use super::{
    broken,
    color::{Color, Opacity, YCbCr},
    directory::{Directory, tag},
    fax::Coding,
    samples::Samples,
    truncated,
    unpack::{Packing, Predictor},
    unsupported,
};
use crate::PageOptions;
use deepseek_ocr_core::Result;

/// How the pixels of a page lie in the file.
pub(super) struct Layout {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) color: Color,
    pub(super) opacity: Option<Opacity>,
    pub(super) samples: Samples,
    /// Samples of a pixel, colours and others.
    pub(super) samples_per_pixel: usize,
    /// Whether each sample of the pixels has strips or tiles of its own.
    pub(super) planar: bool,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    /// Whether the bits of each byte are stored lowest first.
    pub(super) reversed: bool,
    /// Luma samples for each pair of differences, across and down.
    pub(super) subsampling: (u32, u32),
    /// Width and height of a strip or tile.
    pub(super) chunk: (u32, u32),
    /// Offset and length of each strip or tile.
    pub(super) places: Vec<(u64, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Packed(Packing),
    Jpeg,
}

impl Layout {
    pub(super) fn new(directory: &Directory<'_>, options: &PageOptions) -> Result<Self> {
        let number = |tag, default| Ok(directory.number(tag)?.unwrap_or(default));
        let side = |tag| u32::try_from(number(tag, 0)?).map_err(broken);
        let (width, height) = (side(tag::IMAGE_WIDTH)?, side(tag::IMAGE_LENGTH)?);
        options.check(width, height, 0)?;
        let samples_per_pixel = match number(tag::SAMPLES_PER_PIXEL, 1)? {
            count @ 1..=64 => count as usize,
            count => return Err(unsupported(format!("{count} samples per pixel"))),
        };
        let planar = samples_per_pixel > 1 && number(tag::PLANAR_CONFIGURATION, 1)? == 2;
        let bits = bits(directory)?;
        let compression = compression(directory)?;
        let is_jpeg = compression == Compression::Jpeg;
        let is_fax = matches!(compression, Compression::Packed(Packing::Fax(_)));
        if is_jpeg && bits != 8 || is_fax && (bits, samples_per_pixel) != (1, 1) {
            return Err(unsupported(format!("{samples_per_pixel} samples of {bits} bits with this compression")));
        }
        let color = color(directory, bits, samples_per_pixel, is_jpeg, is_fax)?;
        let samples = samples(directory, bits, &color)?;
        let step = if planar { 1 } else { samples_per_pixel };
        let subsampling = match color {
            Color::YCbCr(_) if !is_jpeg || planar => subsampling(directory)?,
            _ => (1, 1),
        };
        let predictor = predictor(directory, compression, &samples, step)?;
        if subsampling != (1, 1) && (planar || predictor != Predictor::None || samples_per_pixel != 3) {
            return Err(unsupported("subsampled YCbCr in planes, with a predictor or with more samples"));
        }
        let (chunk, places) = chunks(directory, (width, height), if planar { samples_per_pixel } else { 1 })?;
        Ok(Self {
            width,
            height,
            opacity: opacity(directory, &color, samples_per_pixel)?,
            color,
            samples,
            samples_per_pixel,
            planar,
            compression,
            predictor,
            reversed: number(tag::FILL_ORDER, 1)? == 2 && !is_jpeg,
            subsampling,
            chunk,
            places,
        })
    }

    /// Strips or tiles that lie beside each other, and above each other.
    pub(super) fn grid(&self) -> (u32, u32) {
        (self.width.div_ceil(self.chunk.0), self.height.div_ceil(self.chunk.1))
    }

    /// Samples that lie beside each other for one pixel.
    pub(super) fn step(&self) -> usize {
        if self.planar { 1 } else { self.samples_per_pixel }
    }

    /// Bytes of a row of a strip or tile whose samples all have full size.
    pub(super) fn stride(&self) -> usize {
        let bits = u64::from(self.chunk.0) * self.step() as u64 * u64::from(self.samples.bits());
        usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
    }

    /// Bytes of all samples of the page, or of a tile that is larger, as they are decoded.
    pub(super) fn decoded_bytes(&self) -> u64 {
        let planes = if self.planar { self.samples_per_pixel as u64 } else { 1 };
        let rows = u64::from(self.chunk.1.max(self.height));
        (self.stride() as u64).saturating_mul(u64::from(self.grid().0)).saturating_mul(rows).saturating_mul(planes)
    }
}

fn bits(directory: &Directory<'_>) -> Result<u32> {
    let bits = directory.numbers(tag::BITS_PER_SAMPLE)?;
    let first = bits.first().copied().unwrap_or(1);
    if bits.iter().any(|&other| other != first) {
        return Err(unsupported(format!("samples of different sizes ({bits:?} bits)")));
    }
    match first {
        1..=16 | 32 | 64 => Ok(first as u32),
        _ => Err(unsupported(format!("samples of {first} bits"))),
    }
}

fn compression(directory: &Directory<'_>) -> Result<Compression> {
    let name = match directory.number(tag::COMPRESSION)?.unwrap_or(1) {
        1 => return Ok(Compression::Packed(Packing::None)),
        2 => return Ok(Compression::Packed(Packing::Fax(Coding::Aligned(8)))),
        3 => {
            let two_dimensional = directory.number(tag::T4_OPTIONS)?.unwrap_or(0) & 1 == 1;
            return Ok(Compression::Packed(Packing::Fax(Coding::Group3 { two_dimensional })));
        }
        4 => return Ok(Compression::Packed(Packing::Fax(Coding::Group4))),
        5 => return Ok(Compression::Packed(Packing::Lzw)),
        7 => return Ok(Compression::Jpeg),
        8 | 32946 => return Ok(Compression::Packed(Packing::Deflate)),
        32771 => return Ok(Compression::Packed(Packing::Fax(Coding::Aligned(16)))),
        32773 => return Ok(Compression::Packed(Packing::PackBits)),
        6 => "old-style JPEG",
        9 | 10 | 34661 => "JBIG",
        32766 => "NeXT",
        32809 => "ThunderScan",
        32908 | 32909 => "Pixar",
        33003 | 33004 | 33005 | 34712 => "JPEG 2000",
        34676 | 34677 => "SGI LogLuv",
        34887 => "LERC",
        34892 | 52546 => "lossy JPEG of DNG, or JPEG XL",
        34925 => "LZMA",
        34926 | 50000 => "Zstandard",
        34927 | 50001 => "WebP",
        50002 => "JPEG XL",
        code => return Err(unsupported(format!("compression {code}"))),
    };
    Err(unsupported(format!("{name} compression")))
}

fn color(directory: &Directory<'_>, bits: u32, samples: usize, is_jpeg: bool, is_fax: bool) -> Result<Color> {
    let photometric = match (directory.number(tag::PHOTOMETRIC)?, samples) {
        (Some(code), _) => code,
        // As libtiff guesses.
        (None, 1) => u64::from(!is_fax),
        (None, 3) => 2,
        (None, _) => return Err(unsupported(format!("{samples} samples without a photometric interpretation"))),
    };
    let name = match photometric {
        0 => return Ok(Color::InvertedGrey),
        1 => return Ok(Color::Grey),
        2 if samples >= 3 => return Ok(Color::Rgb),
        2 => return Err(unsupported(format!("RGB with {samples} samples"))),
        3 if bits <= 16 => return palette(directory, bits),
        3 => return Err(unsupported(format!("a palette of {bits} bits"))),
        5 if samples >= 4 && directory.number(tag::INK_SET)?.unwrap_or(1) == 1 => return Ok(Color::Cmyk),
        // A grey picture, as Pillow reads it.
        6 if samples == 1 => return Ok(Color::Grey),
        6 if samples >= 3 && bits == 8 => return ycbcr(directory, is_jpeg),
        4 => "transparency mask",
        5 => "inks other than CMYK",
        6 => "YCbCr of other than 3 samples of 8 bits",
        8 => "CIELab",
        9 => "ICCLab",
        10 => "ITULab",
        32803 => "colour filter array",
        32844 => "LogL",
        32845 => "LogLuv",
        34892 => "linear raw",
        code => return Err(unsupported(format!("photometric interpretation {code}"))),
    };
    Err(unsupported(format!("{name} as photometric interpretation")))
}

fn palette(directory: &Directory<'_>, bits: u32) -> Result<Color> {
    let size = 1 << bits;
    let values = directory.numbers(tag::COLOR_MAP)?;
    if values.len() != 3 * size {
        return Err(broken(format!("the palette has {} values instead of {}", values.len(), 3 * size)));
    }
    // Some writers fill the 16-bit fields with 8-bit values.
    let shift = if values.iter().all(|&value| value < 256) { 0 } else { 8 };
    let color = |i: usize| [0, 1, 2].map(|channel| (values[channel * size + i] >> shift) as u8);
    Ok(Color::Palette((0..size).map(color).collect()))
}

fn ycbcr(directory: &Directory<'_>, is_jpeg: bool) -> Result<Color> {
    let (mut coefficients, mut range) = (YCbCr::BT_601, YCbCr::FULL_RANGE);
    // JPEG has a conversion of its own.
    if !is_jpeg {
        if let Ok(found) = directory.fractions(tag::YCBCR_COEFFICIENTS)?.try_into() {
            coefficients = found;
        }
        if let Ok(found) = directory.fractions(tag::REFERENCE_BLACK_WHITE)?.try_into() {
            range = found;
        }
    }
    Ok(Color::YCbCr(Box::new(YCbCr::new(coefficients, range))))
}

fn samples(directory: &Directory<'_>, bits: u32, color: &Color) -> Result<Samples> {
    let is_palette = matches!(color, Color::Palette(_));
    let formats = directory.numbers(tag::SAMPLE_FORMAT)?;
    let format = formats.first().copied().unwrap_or(1);
    if formats.iter().any(|&other| other != format) {
        return Err(unsupported("samples of different formats"));
    }
    match (format, bits) {
        // 0 and 4 leave it open: as good as whole numbers.
        (0 | 1 | 4, ..=16) => Ok(Samples::whole(bits, !is_palette)),
        (3, 16 | 32 | 64) if !is_palette => Ok(Samples::Float { bits, white: 1.0 }),
        (0 | 1 | 4, _) => Err(unsupported(format!("whole numbers of {bits} bits as samples"))),
        (2, _) => Err(unsupported("signed numbers as samples")),
        (3, _) => Err(unsupported(format!("floating-point samples of {bits} bits"))),
        _ => Err(unsupported(format!("sample format {format}"))),
    }
}

fn opacity(directory: &Directory<'_>, color: &Color, samples: usize) -> Result<Option<Opacity>> {
    let extra = directory.numbers(tag::EXTRA_SAMPLES)?;
    let first = color.samples();
    if extra.is_empty() {
        // Without a word about it, the fourth sample is opacity, as Pillow reads it.
        let unsaid = matches!(color, Color::Rgb) && samples == 4;
        return Ok(unsaid.then_some(Opacity { index: first, associated: false }));
    }
    // 0 says that the sample means something else; unknown numbers are opacity to Pillow.
    let found = extra.iter().take(samples - first).position(|&meaning| meaning != 0);
    Ok(found.map(|i| Opacity { index: first + i, associated: extra[i] == 1 }))
}

fn subsampling(directory: &Directory<'_>) -> Result<(u32, u32)> {
    let found = directory.numbers(tag::YCBCR_SUBSAMPLING)?;
    match *found.as_slice() {
        [] => Ok((2, 2)),
        [across @ (1 | 2 | 4), down @ (1 | 2 | 4), ..] => Ok((across as u32, down as u32)),
        _ => Err(unsupported(format!("YCbCr subsampling of {found:?}"))),
    }
}

fn predictor(directory: &Directory<'_>, compression: Compression, samples: &Samples, step: usize) -> Result<Predictor> {
    let found = directory.number(tag::PREDICTOR)?.unwrap_or(1);
    // As in libtiff, other compressions have none, whatever the tag says.
    let applies = matches!(compression, Compression::Packed(Packing::Lzw | Packing::Deflate));
    let (bits, is_float) = (samples.bits(), matches!(samples, Samples::Float { .. }));
    let bytes = bits as usize / 8;
    match found {
        1 => Ok(Predictor::None),
        // libtiff takes no notice of it, but there are writers that apply it.
        _ if compression == Compression::Packed(Packing::PackBits) => {
            Err(unsupported(format!("predictor {found} with PackBits compression")))
        }
        _ if !applies => Ok(Predictor::None),
        2 if bits % 8 == 0 => Ok(Predictor::Horizontal { bytes, step }),
        3 if is_float => Ok(Predictor::Float { bytes, step }),
        _ => Err(unsupported(format!("predictor {found} over samples of {bits} bits"))),
    }
}

/// Width and height of a strip or tile, and where each lies.
fn chunks(directory: &Directory<'_>, (width, height): (u32, u32), planes: usize) -> Result<Chunks> {
    let side = |tag| Ok(directory.number(tag)?.map(|side| u32::try_from(side).unwrap_or(u32::MAX)));
    let chunk = match (side(tag::TILE_WIDTH)?, side(tag::TILE_LENGTH)?) {
        (Some(across), Some(down)) => (across, down),
        _ => (width, side(tag::ROWS_PER_STRIP)?.unwrap_or(u32::MAX).min(height)),
    };
    if chunk.0 == 0 || chunk.1 == 0 {
        return Err(broken("strips or tiles without pixels"));
    }
    let either = |tile, strip| match directory.numbers(tile)? {
        found if found.is_empty() => directory.numbers(strip),
        found => Ok(found),
    };
    let offsets = either(tag::TILE_OFFSETS, tag::STRIP_OFFSETS)?;
    let lengths = either(tag::TILE_BYTE_COUNTS, tag::STRIP_BYTE_COUNTS)?;
    let expected = u64::from(width.div_ceil(chunk.0)) * u64::from(height.div_ceil(chunk.1)) * planes as u64;
    if (offsets.len() as u64) < expected {
        return Err(truncated(format!("{} of {expected} strips or tiles have a place", offsets.len())));
    }
    // A length of zero was never filled in: the data may go on to the end of the file.
    let length = |i: usize| lengths.get(i).copied().filter(|&length| length > 0);
    Ok((chunk, offsets.into_iter().enumerate().map(|(i, offset)| (offset, length(i))).collect()))
}

type Chunks = ((u32, u32), Vec<(u64, Option<u64>)>);
