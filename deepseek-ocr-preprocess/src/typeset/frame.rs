//! A checked style in exact lengths: where lines and characters can stand on a page.

use super::{
    compose::{FORM_FEED, is_separator},
    font::Font,
    raster::{SUBPIXELS, Scale},
    style::{Arrangement, Style},
};
use deepseek_ocr_core::{Error, Result, TOKEN_SIDE};

/// Lengths are counted in these parts of a pixel. A token's 64 px are then a whole number for any count of cells up to 10, and
/// for 12, 14, 15, 16, 18, 20, ..
pub(crate) const PIXEL: i64 = 2520;

/// Sizes beyond this are no text for a page that a model sees.
const MAX_SIZE: f32 = 256.0;

/// Lines farther apart than this many ems leave a page empty.
const MAX_LEADING: f32 = 16.0;

/// Sides beyond this are those of no view; it is also the limit for pages that are read.
const MAX_SIDE: u32 = 32_768;

/// Cells of a token along an axis: smaller ones would be a pixel wide.
const MAX_CELLS: u32 = 64;

const MAX_COLUMNS: u32 = 64;
const MAX_TAB: u32 = 1024;

/// A checked style in parts of a pixel.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Size of the em in 1/64 px.
    pub(crate) size: i64,
    /// Width of a column of text.
    pub(crate) column: i64,
    /// Width of a cell; `None` where characters are as wide as the font has them.
    pub(crate) cell: Option<i64>,
    /// Distance of tab stops.
    pub(crate) tab: i64,
    /// Lines of a column.
    rows: usize,
    /// Columns of a band.
    columns: usize,
    /// Bands of a page, one below the other: as many as fit where columns are blocks, else one.
    bands: usize,
    /// From a band to the next.
    band: i64,
    /// Whether text runs on through blocks, and lines end anywhere.
    pub(crate) blocks: bool,
    left: i64,
    /// From a column's left side to that of the next.
    stride: i64,
    /// Of the first line.
    baseline: i64,
    /// From a line to the next.
    pitch: i64,
}

/// How the space between the margins is divided.
struct Division {
    columns: i64,
    /// Width of a column.
    column: i64,
    /// Between two columns.
    gutter: i64,
    /// Height of what is filled before the next.
    band: i64,
}

impl Division {
    /// That of a space of this width and height, with lines so far from each other.
    fn of(style: &Style, [width, height]: [i64; 2], pitch: i64) -> Self {
        let side = pixels(TOKEN_SIDE);
        if let Arrangement::Blocks { .. } = style.arrangement {
            return Self { columns: width.div_euclid(side), column: width.min(side), gutter: 0, band: side };
        }
        let (columns, gutter) = (i64::from(style.columns), pixels(style.gutter));
        let column = (width - (columns - 1) * gutter).div_euclid(columns);
        Self { columns, column, gutter, band: height.max(pitch) }
    }
}

fn pixels(count: u32) -> i64 {
    i64::from(count) * PIXEL
}

impl Frame {
    /// # Errors
    /// [`Error::InvalidStyle`], naming the setting.
    pub(crate) fn new(style: &Style) -> Result<Self> {
        check(style)?;
        let font = style.fonts.first().ok_or_else(|| Error::invalid_style("fonts", "empty", "at least one"))?;
        let size = (style.size * 64.0).round() as i64;
        let scaled = |units: i64| scaled(units, Scale { size, units_per_em: font.units_per_em() });
        let (pitch, cell) = match style.arrangement {
            Arrangement::Flow { leading } => ((leading * style.size * PIXEL as f32).round() as i64, None),
            Arrangement::Aligned { lines, characters } | Arrangement::Blocks { lines, characters } => {
                (token_part(lines), Some(token_part(characters)))
            }
        };
        let margins = style.margins;
        let space = [
            pixels(style.width) - pixels(margins.left) - pixels(margins.right),
            pixels(style.height) - pixels(margins.top) - pixels(margins.bottom),
        ];
        let Division { columns, column, gutter, band } = Division::of(style, space, pitch);
        // A wide character must fit.
        let least = cell.map_or(size * PIXEL / 64, |cell| 2 * cell);
        if column < least {
            let found = format!("{:.1} px wide", column as f64 / PIXEL as f64);
            let expected = format!("at least {:.1} px between margins and gutters", least as f64 / PIXEL as f64);
            return Err(Error::invalid_style("each column", found, expected));
        }
        let blocks = matches!(style.arrangement, Arrangement::Blocks { .. });
        let bands = usize::try_from(space[1].div_euclid(band)).unwrap_or(0);
        if bands == 0 || columns == 0 {
            return Err(no_room(blocks, space, if blocks { band } else { pitch }));
        }
        let (ascent, descent) = (scaled(font.line().ascent), scaled(font.line().descent));
        let stride = column + gutter;
        let space = cell.unwrap_or_else(|| scaled(font.advance(' ')).max(1));
        Ok(Self {
            size,
            column: cell.map_or(column, |cell| column / cell * cell),
            cell,
            tab: i64::from(style.tab) * space,
            rows: (band / pitch) as usize,
            columns: columns as usize,
            bands,
            band,
            blocks,
            left: pixels(margins.left),
            stride: cell.map_or(stride, |cell| stride.div_euclid(cell) * cell),
            baseline: pixels(margins.top) + (pitch - ascent - descent).div_euclid(2) + ascent,
            pitch,
        })
    }

    /// Lines of a page.
    pub(crate) fn slots(&self) -> usize {
        self.rows * self.columns * self.bands
    }

    /// Left end and baseline of a page's line.
    pub(crate) fn origin(&self, slot: usize) -> (i64, i64) {
        let (column, row) = ((slot / self.rows % self.columns) as i64, (slot % self.rows) as i64);
        let band = (slot / (self.rows * self.columns)) as i64;
        (self.left + column * self.stride, self.baseline + band * self.band + row * self.pitch)
    }

    /// Whether a character ends its paragraph.
    pub(crate) fn ends_paragraph(&self, character: char) -> bool {
        if self.blocks { character == FORM_FEED } else { is_separator(character) }
    }

    pub(crate) fn scale(&self, font: &Font) -> Scale {
        Scale { size: self.size, units_per_em: font.units_per_em() }
    }
}

/// Font units in parts of a pixel.
pub(crate) fn scaled(units: i64, scale: Scale) -> i64 {
    let exact = units * scale.size * PIXEL;
    (exact + 32 * scale.units_per_em).div_euclid(64 * scale.units_per_em)
}

/// The nearest pixel at which a glyph can be drawn, and its place within it.
pub(crate) fn snapped(length: i64) -> (i32, i64) {
    let part = PIXEL / SUBPIXELS;
    let parts = (length + part / 2).div_euclid(part);
    (parts.div_euclid(SUBPIXELS) as i32, parts.rem_euclid(SUBPIXELS))
}

/// Says that not even `least`, a line or a block, fits between the margins.
fn no_room(blocks: bool, [width, height]: [i64; 2], least: i64) -> Error {
    let (found, least) = (height / PIXEL, least as f64 / PIXEL as f64);
    let (found, expected) = match blocks {
        true => (format!("{} x {found} px", width / PIXEL), format!("at least {least:.0} x {least:.0} px, a block")),
        false => (format!("{found} px high"), format!("at least the {least:.1} px of a line")),
    };
    Error::invalid_style("the space between the margins", found, expected)
}

fn token_part(count: u32) -> i64 {
    i64::from(TOKEN_SIDE) * PIXEL / i64::from(count)
}

fn check(style: &Style) -> Result<()> {
    let within = |field, found: u32, limits: (u32, u32)| {
        let (low, high) = limits;
        let expected = || Error::invalid_style(field, found, format!("{low} to {high}"));
        if (low..=high).contains(&found) { Ok(()) } else { Err(expected()) }
    };
    let length = |field, found: f32, limits: (f32, f32)| {
        let (low, high) = limits;
        let expected = || Error::invalid_style(field, found, format!("{low} to {high}"));
        if found >= low && found <= high { Ok(()) } else { Err(expected()) }
    };
    length("size", style.size, (1.0, MAX_SIZE))?;
    match style.arrangement {
        Arrangement::Flow { leading } => length("leading", leading, (0.1, MAX_LEADING))?,
        Arrangement::Aligned { lines, characters } | Arrangement::Blocks { lines, characters } => {
            within("lines to a token", lines, (1, MAX_CELLS))?;
            within("characters to a token", characters, (1, MAX_CELLS))?;
        }
    }
    within("width", style.width, (1, MAX_SIDE))?;
    within("height", style.height, (1, MAX_SIDE))?;
    let most_columns = if matches!(style.arrangement, Arrangement::Blocks { .. }) { 1 } else { MAX_COLUMNS };
    within("columns", style.columns, (1, most_columns))?;
    within("gutter", style.gutter, (0, MAX_SIDE))?;
    within("tab", style.tab, (1, MAX_TAB))?;
    for (field, margin, side) in [
        ("the left margin", style.margins.left, style.width),
        ("the right margin", style.margins.right, style.width),
        ("the top margin", style.margins.top, style.height),
        ("the bottom margin", style.margins.bottom, style.height),
    ] {
        within(field, margin, (0, side))?;
    }
    Ok(())
}
