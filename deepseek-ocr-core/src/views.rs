//! The square views of one page: what preprocessing hands to the encoder.

use crate::{Mode, TileGrid};

/// Mean and standard deviation of every channel in the released `processor_config.json`.
const MEAN: f32 = 0.5;
const STD: f32 = 0.5;

/// A square RGB image, 8 bits a channel, rows top to bottom.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct View {
    side: u32,
    pixels: Vec<u8>,
}

/// All views of one page: the tiles in reading order (maybe none) and the whole page.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Views {
    mode: Mode,
    grid: TileGrid,
    page: View,
    tiles: Vec<View>,
}

impl View {
    /// A view of `side` x `side` from interleaved RGB bytes.
    ///
    /// # Panics
    /// If `pixels` has not `side * side * 3` bytes.
    pub fn new(side: u32, pixels: Vec<u8>) -> Self {
        let expected = side as usize * side as usize * 3;
        assert_eq!(pixels.len(), expected, "a view of side {side} has {expected} bytes");
        Self { side, pixels }
    }

    /// Side in pixels.
    pub fn side(&self) -> u32 {
        self.side
    }

    /// Interleaved RGB bytes, `side * side * 3` of them.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Appends the normalised pixels, `(v / 255 - 0.5) / 0.5`, channel by channel (`[3, side, side]`), to `out`.
    pub fn normalize_into(&self, out: &mut Vec<f32>) {
        let table: [f32; 256] = std::array::from_fn(|v| (v as f32 / 255.0 - MEAN) / STD);
        out.reserve(self.pixels.len());
        for channel in 0..3 {
            out.extend(self.pixels.iter().skip(channel).step_by(3).map(|&v| table[v as usize]));
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({0} x {0})", self.side)
    }
}

impl Views {
    /// The views of a page that was cut into `grid` for `mode`; `tiles` row by row.
    ///
    /// # Panics
    /// If a side is not the mode's or the number of tiles not the grid's.
    pub fn new(mode: Mode, grid: TileGrid, page: View, tiles: Vec<View>) -> Self {
        let geometry = mode.geometry();
        assert_eq!(page.side, geometry.page_side, "the page view of mode {mode} has another side");
        assert_eq!(tiles.len(), grid.tiles(), "{} tiles for a {} x {} grid", tiles.len(), grid.columns, grid.rows);
        for tile in &tiles {
            assert_eq!(Some(tile.side), geometry.tile_side, "a tile of mode {mode} has another side");
        }
        Self { mode, grid, page, tiles }
    }

    /// The mode that the views were made for.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Columns and rows of the tiles; 1 x 1 when there are none.
    pub fn grid(&self) -> TileGrid {
        self.grid
    }

    /// The whole page.
    pub fn page(&self) -> &View {
        &self.page
    }

    /// The tiles, row by row.
    pub fn tiles(&self) -> &[View] {
        &self.tiles
    }

    /// Vision tokens that these views become.
    pub fn vision_tokens(&self) -> usize {
        self.mode.vision_tokens_of(self.grid)
    }
}
