//! Where the characters of a page stand, in cells of the vision tokens' grid.

use crate::{
    pages::{COLUMNS, TOKEN},
    recipe::Arrangement,
};
use anyhow::{Context, Result};
use deepseek_ocr::{Font, Margins, Page, Style};

/// Characters whose width is measured side by side, and the size at which it is.
const MEASURED: (usize, f32) = (8, 64.0);

/// Distance of two lines of text that flows, in sizes of the em.
pub(crate) const LEADING: f32 = 1.25;

/// A font's name and how it is come by.
type Named = (&'static str, fn() -> Font);

/// The embedded fonts that have all of ASCII, by the names that the command line knows.
pub(crate) const FONTS: [Named; 3] = [("sans-mono", Font::sans_mono), ("sans", Font::sans), ("serif", Font::serif)];

/// Text that flows over a page in a font's own widths.
pub(crate) fn flowing(font: Font, size: f32, [side, top]: [u32; 2], rows: usize) -> Style {
    let margins = Margins { top, right: side, bottom: 0, left: side };
    let page = Style::default().with_page((COLUMNS * TOKEN) as u32, (rows * TOKEN) as u32);
    page.with_margins(margins).with_font(font).with_size(size).with_leading(LEADING)
}

/// The part of a page that belongs to a character, in pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spot {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// Cells to a vision token: lines and characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid(pub [u32; 2]);

impl Grid {
    /// Cells of a token.
    pub(crate) fn cells(self) -> usize {
        self.0.iter().product::<u32>() as usize
    }

    /// Height and width of a cell, in pixels.
    fn sides(self) -> [f64; 2] {
        self.0.map(|count| TOKEN as f64 / f64::from(count))
    }

    /// The cell of a page of so many rows of tokens in a line of cells and a column.
    fn at(self, rows: usize, line: usize, column: usize) -> usize {
        let [high, wide] = self.0.map(|count| count as usize);
        let (line, column) = (line.min(rows * high - 1), column.min(COLUMNS * wide - 1));
        let token = line / high * COLUMNS + column / wide;
        token * high * wide + line % high * wide + column % wide
    }

    /// The cell with the middle of a spot; the nearest one for what stands beside the page, and one behind all for what stands below.
    pub(crate) fn cell(self, spot: Spot, rows: usize) -> usize {
        if spot.top >= (rows * TOKEN) as f64 {
            return rows * COLUMNS * self.cells();
        }
        let [high, wide] = self.sides();
        let (line, column) = ((spot.top + spot.height / 2.0) / high, (spot.left + spot.width / 2.0) / wide);
        self.at(rows, line as usize, column as usize)
    }

    /// The cells whose middle belongs to a spot.
    pub(crate) fn covered(self, spot: Spot, rows: usize) -> impl Iterator<Item = usize> {
        let [high, wide] = self.sides();
        let middles = |from: f64, length: f64, side: f64, most: u32| {
            let index = |at: f64| ((at / side - 0.5 - 1e-6).ceil().max(0.0) as usize).min(most as usize);
            index(from)..index(from + length)
        };
        let lines = middles(spot.top, spot.height, high, rows as u32 * self.0[0]);
        let columns = middles(spot.left, spot.width, wide, COLUMNS as u32 * self.0[1]);
        lines.flat_map(move |line| columns.clone().map(move |column| self.at(rows, line, column)))
    }
}

/// The spots of all characters of a page on a grid, line ends and the end of all with them.
pub(crate) fn on_grid(lines: &[String], density: [u32; 2], arrangement: Arrangement) -> Vec<Spot> {
    let [height, width] = Grid(density).sides();
    let high = density[0] as usize;
    let spot = |line: usize, column: usize| {
        let (left, top) = (column as f64 * width, line as f64 * height);
        let (left, top) = match arrangement {
            Arrangement::Lines => (left, top),
            Arrangement::Blocks => {
                let (block, row) = (line / high, line % high);
                let corner = [block % COLUMNS, block / COLUMNS].map(|token| (token * TOKEN) as f64);
                (corner[0] + left, corner[1] + row as f64 * height)
            }
        };
        Spot { left, top, width, height }
    };
    let mut spots: Vec<Spot> = Vec::new();
    for (line, text) in lines.iter().enumerate() {
        let ends = usize::from(arrangement == Arrangement::Lines);
        spots.extend((0..text.len() + ends).map(|column| spot(line, column)));
    }
    if arrangement == Arrangement::Blocks {
        let full = lines.last().is_none_or(|line| line.len() == density[1] as usize);
        let last = lines.len().saturating_sub(usize::from(!full));
        spots.push(spot(last, if full { 0 } else { lines[last].len() }));
    }
    spots
}

/// The spots of all characters of a page whose text flows, line ends and the end of all with them.
pub(crate) fn in_flow(lines: &[String], style: &Style, widths: &Widths) -> Vec<Spot> {
    let height = f64::from(style.size * LEADING);
    let mut spots = Vec::new();
    for (line, text) in lines.iter().enumerate() {
        let (mut left, top) = (f64::from(style.margins.left), f64::from(style.margins.top) + line as f64 * height);
        for character in text.bytes().chain([b' ']) {
            let width = widths.of(character) * f64::from(style.size);
            spots.push(Spot { left, top, width, height });
            left += width;
        }
    }
    spots
}

/// The widths of a font's characters, in sizes of the em.
#[derive(Debug, Clone)]
pub(crate) struct Widths(Vec<f64>);

impl Widths {
    /// Measures them on pages.
    pub(crate) fn measure(font: &Font) -> Result<Self> {
        let (count, size) = MEASURED;
        let style = Style::default().with_page(1024, 96).with_margins(Margins::all(8));
        let style = style.with_font(font.clone()).with_size(size);
        let end = |text: &str| -> Result<u32> {
            let typeset = Page::typeset(text, &style)?;
            let page = typeset.pages()[0].page.rgb();
            let inked = |x: &u32| (0..page.height()).any(|y| page.get_pixel(*x, y).0[0] < 128);
            (0..page.width()).rev().find(inked).context("a bar was not drawn")
        };
        let none = end("||")?;
        let width = |character: u8| {
            let text = format!("|{}|", String::from(char::from(character)).repeat(count));
            Ok(f64::from(end(&text)? - none) / (count as f64 * f64::from(size)))
        };
        Ok(Self((b' '..=b'~').map(width).collect::<Result<_>>()?))
    }

    fn of(&self, character: u8) -> f64 {
        self.0[usize::from(character.clamp(b' ', b'~') - b' ')]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_fonts() {
        let mono = Widths::measure(&Font::sans_mono()).unwrap();
        // 1233 of 2048 units.
        assert!((b' '..=b'~').all(|character| (mono.of(character) - 0.602).abs() < 0.004));
        let sans = Widths::measure(&Font::sans()).unwrap();
        for (character, units) in [(b'i', 569.0), (b'm', 1995.0), (b' ', 651.0), (b'W', 2025.0)] {
            assert!((sans.of(character) - units / 2048.0).abs() < 0.004, "{character}: {}", sans.of(character));
        }
    }

    #[test]
    fn blocks_are_cells_in_the_order_of_the_text() {
        let lines: Vec<String> = ["0123", "4567", "89ab", "cdef", "gh"].map(str::to_owned).into();
        let spots = on_grid(&lines, [2, 4], Arrangement::Blocks);
        let grid = Grid([2, 4]);
        assert_eq!(spots.len(), 19);
        for (index, spot) in spots.into_iter().enumerate() {
            assert_eq!(grid.cell(spot, 8), index);
            assert_eq!(grid.covered(spot, 8).collect::<Vec<_>>(), [index]);
        }
        let full = on_grid(&lines[..4], [2, 4], Arrangement::Blocks);
        assert_eq!((full.len(), grid.cell(full[16], 8)), (17, 16));
        let page = vec!["0123".to_owned(); 128];
        assert_eq!(on_grid(&page, [2, 4], Arrangement::Blocks).last().map(|&end| grid.cell(end, 8)), Some(512));
    }

    #[test]
    fn text_that_flows_stands_where_its_ink_is() {
        for (name, font) in FONTS {
            let font = font();
            let style = flowing(font.clone(), 20.0, [12, 7], 8);
            let text = "The sailors, 37 of them, sang of home and of the rain that fell on Walworth. ".repeat(6);
            let typeset = Page::typeset(&text, &style).unwrap();
            let page = &typeset.pages()[0];
            let lines: Vec<String> = page.lines.iter().map(|line| text[line.clone()].to_owned()).collect();
            let spots = in_flow(&lines, &style, &Widths::measure(&font).unwrap());
            assert_eq!(spots.len(), lines.iter().map(|line| line.len() + 1).sum::<usize>());
            let mut first = 0;
            for line in &lines {
                let (top, last) = (spots[first].top, spots[first + line.len() - 1]);
                let inked =
                    |x: &u32| (top as u32..top as u32 + 25).any(|y| page.page.rgb().get_pixel(*x, y).0[0] < 128);
                let end = (0..512).rev().find(inked).unwrap();
                let within = last.left - 1.0..last.left + last.width + 1.0;
                assert!(within.contains(&f64::from(end)), "{name}: {end}, {last:?}");
                first += line.len() + 1;
            }
        }
    }
}
