//! The layout (section 3.2.2 of the paper): in which order the decoder reads the vision tokens of a page.

use burn::{
    module::{Module, Param},
    nn::Initializer,
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::TileGrid;

/// Lines of tokens, each closed by a learned line end: all tiles as one picture, then the page, then a separator.
#[derive(Module, Debug)]
pub struct Layout {
    /// `[hidden]`; ends a line.
    pub image_newline: Param<Tensor<1>>,
    /// `[hidden]`; ends a page.
    pub view_separator: Param<Tensor<1>>,
}

impl Layout {
    pub(crate) fn new(hidden: usize, device: &Device) -> Self {
        let initializer = Initializer::Normal { mean: 0.0, std: 1.0 / (hidden as f64).sqrt() };
        Self { image_newline: initializer.init([hidden], device), view_separator: initializer.init([hidden], device) }
    }

    /// # Shapes
    /// - `tiles`: `grid.tiles()` of `[1, q * q, hidden]`, row by row; none for a page without tiles
    /// - `page`: `[1, q * q, hidden]`; its `q` may be another
    /// - output: `[tokens, hidden]`
    pub fn forward(&self, tiles: Vec<Tensor<3>>, grid: TileGrid, page: Tensor<3>) -> Tensor<2> {
        let mut parts = Vec::new();
        if !tiles.is_empty() {
            parts.push(self.lines(Tensor::cat(tiles, 0), grid));
        }
        parts.push(self.lines(page, TileGrid::SINGLE));
        parts.push(self.view_separator.val().unsqueeze());
        Tensor::cat(parts, 0)
    }

    /// Pages without tiles, together; each is what [`forward`](Self::forward) gives for it.
    ///
    /// # Shapes
    /// - `pages`: `[pages, rows, columns, hidden]`
    /// - output: `[pages, rows * (columns + 1) + 1, hidden]`
    pub fn forward_pages(&self, pages: Tensor<4>) -> Tensor<3> {
        let [count, rows, columns, hidden] = pages.dims();
        let ends = self.image_newline.val().expand([count, rows, 1, hidden]);
        let lines = Tensor::cat(vec![pages, ends], 2).reshape([count, rows * (columns + 1), hidden]);
        Tensor::cat(vec![lines, self.view_separator.val().expand([count, 1, hidden])], 1)
    }

    /// Views of a grid as one picture, line by line.
    ///
    /// # Shapes
    /// - `views`: `[rows * columns, q * q, hidden]`
    /// - output: `[rows * q * (columns * q + 1), hidden]`
    fn lines(&self, views: Tensor<3>, grid: TileGrid) -> Tensor<2> {
        let [_, tokens, hidden] = views.dims();
        let (columns, rows, q) = (grid.columns as usize, grid.rows as usize, tokens.isqrt());
        let (height, width) = (rows * q, columns * q);
        let picture = views.reshape([rows, columns, q, q, hidden]).swap_dims(1, 2).reshape([height, width, hidden]);
        let ends = self.image_newline.val().expand([height, 1, hidden]);
        Tensor::cat(vec![picture, ends], 1).reshape([height * (width + 1), hidden])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{module::ParamId, tensor::DType};

    /// A layout of width 1 with line end -1 and separator -2.
    fn layout(device: &Device) -> Layout {
        let param = |value: f32| Param::initialized(ParamId::new(), Tensor::from_data([value], (device, DType::F32)));
        Layout { image_newline: param(-1.0), view_separator: param(-2.0) }
    }

    fn view(values: [f32; 4], device: &Device) -> Tensor<3> {
        Tensor::<1>::from_data(values, (device, DType::F32)).reshape([1, 4, 1])
    }

    #[test]
    fn a_page_alone_is_its_lines_and_a_separator() {
        let device = Device::default();
        let tokens = layout(&device).forward(Vec::new(), TileGrid::SINGLE, view([1.0, 2.0, 3.0, 4.0], &device));
        let expected = [1f32, 2.0, -1.0, 3.0, 4.0, -1.0, -2.0];
        tokens.reshape([7]).into_data().assert_eq(&expected.into(), true);
    }

    #[test]
    fn tiles_are_one_picture_in_front_of_the_page() {
        let device = Device::default();
        let tile = |at: f32| view([at, at + 1.0, at + 2.0, at + 3.0], &device);
        let tiles = vec![tile(10.0), tile(20.0), tile(30.0), tile(40.0), tile(50.0), tile(60.0)];
        let grid = TileGrid { columns: 3, rows: 2 };
        let tokens = layout(&device).forward(tiles, grid, view([1.0, 2.0, 3.0, 4.0], &device));
        #[rustfmt::skip]
        let expected = [
            10f32, 11.0, 20.0, 21.0, 30.0, 31.0, -1.0,
            12.0, 13.0, 22.0, 23.0, 32.0, 33.0, -1.0,
            40.0, 41.0, 50.0, 51.0, 60.0, 61.0, -1.0,
            42.0, 43.0, 52.0, 53.0, 62.0, 63.0, -1.0,
            1.0, 2.0, -1.0, 3.0, 4.0, -1.0, -2.0,
        ];
        tokens.reshape([35]).into_data().assert_eq(&expected.into(), true);
    }
}
