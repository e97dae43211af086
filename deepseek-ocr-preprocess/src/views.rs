//! From a page to its views (section 3.2.2 of the paper): the page view, and tiles in the Gundam modes.

use crate::{Page, fit::fit, tiling::tiles};
use deepseek_ocr_core::{Mode, Views};

/// The views of `page` in `mode`, with at most [`Mode::DEFAULT_MAX_TILES`] tiles.
///
/// ```
/// use deepseek_ocr_core::Mode;
/// use deepseek_ocr_preprocess::{Page, image, views};
///
/// let page = Page::from(image::RgbImage::new(1000, 700));
/// let views = views(&page, Mode::Gundam);
/// assert_eq!((views.page().side(), views.tiles().len()), (1024, 6));
/// ```
pub fn views(page: &Page, mode: Mode) -> Views {
    views_with(page, mode, Mode::DEFAULT_MAX_TILES)
}

/// The views of `page` in `mode`, with at most `max_tiles` tiles; below 2 the page is not tiled.
pub fn views_with(page: &Page, mode: Mode, max_tiles: u32) -> Views {
    let geometry = mode.geometry();
    let grid = mode.tile_grid(page.width(), page.height(), max_tiles);
    let tiles = match geometry.tile_side {
        Some(side) => tiles(page.rgb(), grid, side),
        None => Vec::new(),
    };
    // The page view is made from the original, never from the sheet that the tiles were cut from.
    Views::new(mode, grid, fit(page.rgb(), geometry.page_side, geometry.fit), tiles)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepseek_ocr_core::TileGrid;
    use image::RgbImage;

    #[test]
    fn a_page_within_640_has_no_tiles() {
        let views = views(&Page::from(RgbImage::new(640, 640)), Mode::Gundam);
        assert_eq!((views.grid(), views.tiles().len()), (TileGrid::SINGLE, 0));
    }

    #[test]
    fn the_cap_on_tiles_is_kept() {
        let page = Page::from(RgbImage::new(1576, 3618));
        assert_eq!(views(&page, Mode::Gundam).grid(), TileGrid { columns: 2, rows: 4 });
        assert_eq!(views_with(&page, Mode::Gundam, 6).grid(), TileGrid { columns: 1, rows: 2 });
        assert_eq!(views_with(&page, Mode::Gundam, 1).grid(), TileGrid::SINGLE);
    }

    #[test]
    fn every_mode_takes_extreme_pages() {
        for (width, height) in [(1, 1), (1, 3000), (3000, 1)] {
            let page = Page::from(RgbImage::new(width, height));
            for mode in Mode::ALL {
                assert_eq!(views(&page, mode).vision_tokens(), mode.vision_tokens(width, height));
            }
        }
    }
}
