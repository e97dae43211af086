//! A page into tiles for the Gundam modes: the whole page resized to the grid, then cut row by row.

use crate::resize::resize;
use deepseek_ocr_core::{TileGrid, View};
use image::{RgbImage, imageops};

/// The tiles of a page, row by row; none when the grid is 1 x 1. The aspect is not kept.
pub(crate) fn tiles(image: &RgbImage, grid: TileGrid, side: u32) -> Vec<View> {
    if grid.is_single() {
        return Vec::new();
    }
    let sheet = resize(image, grid.columns * side, grid.rows * side);
    (0..grid.rows)
        .flat_map(|row| (0..grid.columns).map(move |column| (column * side, row * side)))
        .map(|(x, y)| View::new(side, imageops::crop_imm(&sheet, x, y, side, side).to_image().into_raw()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn tiles_come_row_by_row() {
        let page = RgbImage::from_fn(30, 20, |x, y| Rgb([(x / 10) as u8 * 100, (y / 10) as u8 * 100, 0]));
        let tiles = tiles(&page, TileGrid { columns: 3, rows: 2 }, 10);
        let corners: Vec<_> = tiles.iter().map(|tile| [tile.pixels()[0], tile.pixels()[1]]).collect();
        assert_eq!(corners, [[0, 0], [100, 0], [200, 0], [0, 100], [100, 100], [200, 100]]);
    }

    #[test]
    fn a_single_grid_has_no_tiles() {
        assert!(tiles(&RgbImage::new(5, 5), TileGrid::SINGLE, 640).is_empty());
    }
}
