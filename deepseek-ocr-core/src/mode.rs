//! Resolution modes and their geometry (section 3.2.2 of the paper): how a page becomes square views, and what that costs.

use crate::{Error, Result};
use std::{fmt, str::FromStr};

/// Side of a vision token in view pixels: SAM's 16-pixel patches, compressed four times along each side.
pub const TOKEN_SIDE: u32 = 64;

/// Pages of at most this width *and* height are not tiled, whatever the tile side (a constant of the released code).
const UNTILED_SIDE: u32 = 640;

/// Fewest tiles of a tiled page in the released code.
const MIN_TILES: u32 = 2;

/// How many pixels, and so how many vision tokens, the model sees of a page.
///
/// ```
/// use deepseek_ocr_core::Mode;
///
/// assert_eq!("base".parse::<Mode>()?, Mode::Base);
/// assert_eq!(Mode::Base.vision_tokens(1654, 2339), 273);
/// assert_eq!(Mode::default(), Mode::Gundam);
/// # Ok::<(), deepseek_ocr_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub enum Mode {
    /// One view of 512 x 512, stretched: 64 patch tokens, 73 with line ends.
    Tiny,
    /// One view of 640 x 640, stretched: 100 patch tokens, 111 with line ends.
    Small,
    /// One view of 1024 x 1024, padded: 256 patch tokens, 273 with line ends.
    Base,
    /// One view of 1280 x 1280, padded: 400 patch tokens, 421 with line ends.
    Large,
    /// Tiles of 640 x 640 and a padded page view of 1024 x 1024.
    #[default]
    Gundam,
    /// Tiles of 1024 x 1024 and a padded page view of 1280 x 1280.
    ///
    /// The paper trains this mode in a continued run; the public weights were not trained for it.
    GundamM,
}

/// How a page is brought into a square view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fit {
    /// Resized to the square, aspect not kept.
    Stretch,
    /// Resized with its aspect, centred on grey.
    Pad,
}

/// The views of a [`Mode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Geometry {
    /// Side of the page view in pixels.
    pub page_side: u32,
    /// How the page fills its view.
    pub fit: Fit,
    /// Side of a tile in pixels; `None` for modes without tiles.
    pub tile_side: Option<u32>,
}

/// Columns and rows of tiles; 1 x 1 stands for a page without tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TileGrid {
    /// Tiles side by side.
    pub columns: u32,
    /// Tiles on top of each other.
    pub rows: u32,
}

impl Mode {
    /// Every mode, cheapest first.
    pub const ALL: [Self; 6] = [Self::Tiny, Self::Small, Self::Base, Self::Large, Self::Gundam, Self::GundamM];

    /// The most tiles that the released transformers code cuts a page into.
    ///
    /// The vLLM configuration of the same authors uses 6.
    pub const DEFAULT_MAX_TILES: u32 = 9;

    /// The views of this mode.
    pub const fn geometry(self) -> Geometry {
        let (page_side, fit, tile_side) = match self {
            Self::Tiny => (512, Fit::Stretch, None),
            Self::Small => (640, Fit::Stretch, None),
            Self::Base => (1024, Fit::Pad, None),
            Self::Large => (1280, Fit::Pad, None),
            Self::Gundam => (1024, Fit::Pad, Some(640)),
            Self::GundamM => (1280, Fit::Pad, Some(1024)),
        };
        Geometry { page_side, fit, tile_side }
    }

    /// Vision tokens of a page of `width` x `height` pixels with the default cap on tiles; needs no model.
    pub fn vision_tokens(self, width: u32, height: u32) -> usize {
        let grid = self.tile_grid(width, height, Self::DEFAULT_MAX_TILES);
        self.vision_tokens_of(grid)
    }

    /// Vision tokens of a page that is cut into `grid`: its patches, a newline after each line, one separator.
    pub fn vision_tokens_of(self, grid: TileGrid) -> usize {
        let Geometry { page_side, tile_side, .. } = self.geometry();
        let q = (page_side / TOKEN_SIDE) as usize;
        let page = q * (q + 1) + 1;
        let tiles = match tile_side {
            Some(side) if !grid.is_single() => {
                let q = (side / TOKEN_SIDE) as usize;
                (grid.columns as usize * q + 1) * (grid.rows as usize * q)
            }
            _ => 0,
        };
        page + tiles
    }

    /// How a page of `width` x `height` pixels is cut, with at most `max_tiles` tiles; 1 x 1 when it is not.
    pub fn tile_grid(self, width: u32, height: u32, max_tiles: u32) -> TileGrid {
        match self.geometry().tile_side {
            Some(side) if width > UNTILED_SIDE || height > UNTILED_SIDE => {
                TileGrid::choose(width, height, side, max_tiles)
            }
            _ => TileGrid::SINGLE,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::Small => "small",
            Self::Base => "base",
            Self::Large => "large",
            Self::Gundam => "gundam",
            Self::GundamM => "gundam-m",
        }
    }
}

impl TileGrid {
    /// No tiles: the page view alone.
    pub const SINGLE: Self = Self { columns: 1, rows: 1 };

    /// Whether the page is not tiled.
    pub const fn is_single(self) -> bool {
        self.columns == 1 && self.rows == 1
    }

    /// Number of tiles; 0 when the page is not tiled.
    pub const fn tiles(self) -> usize {
        if self.is_single() { 0 } else { self.columns as usize * self.rows as usize }
    }

    /// The grid of 2 to `max_tiles` tiles whose aspect is nearest to the page's.
    ///
    /// Between equally near grids the larger wins when the page has over half of its pixels.
    /// With `max_tiles` below 2 the page is not tiled.
    pub fn choose(width: u32, height: u32, tile_side: u32, max_tiles: u32) -> Self {
        let aspect = f64::from(width) / f64::from(height.max(1));
        let area = f64::from(width) * f64::from(height);
        let tile_area = f64::from(tile_side) * f64::from(tile_side);
        let (mut best, mut best_distance) = (Self::SINGLE, f64::INFINITY);
        for count in MIN_TILES..=max_tiles {
            for columns in (1..=count).filter(|columns| count % columns == 0) {
                let grid = Self { columns, rows: count / columns };
                let distance = (aspect - f64::from(grid.columns) / f64::from(grid.rows)).abs();
                let fills = area > 0.5 * tile_area * f64::from(count);
                if distance < best_distance || (distance == best_distance && fills) {
                    (best, best_distance) = (grid, distance);
                }
            }
        }
        best
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Mode {
    type Err = Error;

    /// Accepts the names that [`Display`](fmt::Display) prints, in any case.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(text)).ok_or_else(|| {
            Error::invalid_request("mode", format!("{text:?}"), "tiny, small, base, large, gundam or gundam-m")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for mode in Mode::ALL {
            assert_eq!(mode.to_string().parse::<Mode>().expect("own name"), mode);
        }
        assert!("huge".parse::<Mode>().is_err());
    }

    #[test]
    fn counts_are_those_of_the_paper_with_line_ends() {
        let counts: Vec<_> = Mode::ALL[..4].iter().map(|mode| mode.vision_tokens(3000, 2000)).collect();
        assert_eq!(counts, [73, 111, 273, 421]);
        assert_eq!(Mode::Gundam.vision_tokens(640, 640), 273);
        assert_eq!(Mode::Gundam.vision_tokens_of(TileGrid { columns: 2, rows: 3 }), 903);
        assert_eq!(Mode::GundamM.vision_tokens_of(TileGrid { columns: 3, rows: 1 }), 1205);
    }

    #[test]
    fn a_cap_below_two_means_no_tiles() {
        assert_eq!(Mode::Gundam.tile_grid(2000, 1000, 1), TileGrid::SINGLE);
        assert_eq!(Mode::Gundam.tile_grid(2000, 1000, 2), TileGrid { columns: 2, rows: 1 });
    }
}
