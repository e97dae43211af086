//! Plots as PNG: lines and dots over two axes, lettered by the library's own typesetter, so that they look alike everywhere.

mod axis;
mod canvas;

pub use axis::{Axis, Scale};

use anyhow::Context;
use canvas::{Canvas, Place};
use deepseek_ocr::preprocess::image::{
    RgbImage,
    codecs::png::{CompressionType, FilterType, PngEncoder},
};
use std::path::Path;

/// Size of a plot in pixels.
const SIZE: (u32, u32) = (860, 460);
/// What is around the axes: above, to the right (where the legend stands), below, to the left.
const MARGINS: [f32; 4] = [66.0, 210.0, 56.0, 66.0];
const TITLE_SIZE: f32 = 17.0;
const LABEL_SIZE: f32 = 13.0;
/// From an entry of the legend to the next.
const LEGEND_LINE: f32 = 21.0;
const DOT_RADIUS: f32 = 3.5;

/// Colours that differ for colour-blind readers too (the Okabe-Ito palette), in the order in which series take them.
const COLORS: [[u8; 3]; 8] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [86, 180, 233],
    [230, 159, 0],
    [90, 90, 90],
    [150, 60, 30],
];
const BLACK: [u8; 3] = [30; 3];
const GRID: [u8; 3] = [225; 3];

/// Lines and dots over two axes.
///
/// ```
/// use compression_study::plot::{Axis, Mark, Plot, Scale};
///
/// let losses = [(0.0, 4.1), (100.0, 2.2), (200.0, 0.7)];
/// let plot = Plot::new("Training", Axis::new("steps"), Axis::new("loss").with_scale(Scale::Logarithmic))
///     .with_series("train", Mark::Line, losses);
/// assert_eq!(plot.draw()?.dimensions(), (860, 460));
/// # Ok::<(), anyhow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Plot {
    title: String,
    x: Axis,
    y: Axis,
    series: Vec<Series>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mark {
    /// A line.
    Line,
    /// A line with a dot at each point.
    Dotted,
    /// A dashed line with a dot at each point.
    Dashed,
    /// Dots alone.
    Dots,
}

#[derive(Debug, Clone)]
struct Series {
    name: String,
    mark: Mark,
    points: Vec<(f64, f64)>,
}

impl Plot {
    /// A plot without series.
    pub fn new(title: impl Into<String>, x: Axis, y: Axis) -> Self {
        Self { title: title.into(), x, y, series: Vec::new() }
    }

    /// Adds a series in the next colour, in the order of its points. Points that no axis can show (not finite; not positive
    /// where it is logarithmic) are left out and interrupt the line.
    #[must_use]
    pub fn with_series(
        mut self,
        name: impl Into<String>,
        mark: Mark,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        self.series.push(Series { name: name.into(), mark, points: points.into_iter().collect() });
        self
    }

    /// Draws it.
    ///
    /// # Errors
    /// Those of typesetting.
    pub fn draw(&self) -> anyhow::Result<RgbImage> {
        let mut canvas = Canvas::new(SIZE);
        let [top, right, bottom, left] = MARGINS;
        let (width, height) = (SIZE.0 as f32, SIZE.1 as f32);
        let area = Area { left, right: width - right, top, bottom: height - bottom };
        let points = || self.series.iter().flat_map(|series| series.points.iter().copied());
        let x = self.x.range(points().map(|point| point.0));
        let y = self.y.range(points().map(|point| point.1));
        canvas.text(&self.title, (left, 8.0), (Place::Start, TITLE_SIZE))?;
        canvas.text(self.y.label(), (8.0, top - 30.0), (Place::Start, LABEL_SIZE))?;
        canvas.text(self.x.label(), (area.middle(), height - 26.0), (Place::Middle, LABEL_SIZE))?;
        for (at, label) in x.ticks() {
            let at = area.x(at);
            canvas.line((at, area.top), (at, area.bottom), (1.0, GRID));
            canvas.text(&label, (at, area.bottom + 6.0), (Place::Middle, LABEL_SIZE))?;
        }
        for (at, label) in y.ticks() {
            let at = area.y(at);
            canvas.line((area.left, at), (area.right, at), (1.0, GRID));
            canvas.text(&label, (area.left - 8.0, at - 8.0), (Place::End, LABEL_SIZE))?;
        }
        canvas.line((area.left, area.top), (area.left, area.bottom), (1.0, BLACK));
        canvas.line((area.left, area.bottom), (area.right, area.bottom), (1.0, BLACK));
        for (index, series) in self.series.iter().enumerate() {
            let color = COLORS[index % COLORS.len()];
            let place = |&(at, value): &(f64, f64)| Some((area.x(x.part(at)?), area.y(y.part(value)?)));
            draw(&mut canvas, series.mark, &series.points.iter().map(place).collect::<Vec<_>>(), color);
            let entry = (area.right + 18.0, area.top + 8.0 + index as f32 * LEGEND_LINE);
            draw(&mut canvas, series.mark, &[Some(entry), Some((entry.0 + 26.0, entry.1))], color);
            canvas.text(&series.name, (entry.0 + 36.0, entry.1 - 8.0), (Place::Start, LABEL_SIZE))?;
        }
        Ok(canvas.into_image())
    }

    /// Draws it and writes it as PNG.
    ///
    /// # Errors
    /// As [`draw`](Self::draw); if the file cannot be written.
    pub fn save(&self, path: &Path) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        let encoder = PngEncoder::new_with_quality(&mut bytes, CompressionType::Best, FilterType::Adaptive);
        self.draw()?.write_with_encoder(encoder)?;
        std::fs::write(path, bytes).with_context(|| path.display().to_string())
    }
}

/// Where the axes are, in pixels.
struct Area {
    left: f32,
    right: f32,
    top: f32,
    bottom: f32,
}

impl Area {
    fn x(&self, part: f64) -> f32 {
        self.left + part as f32 * (self.right - self.left)
    }

    fn y(&self, part: f64) -> f32 {
        self.bottom - part as f32 * (self.bottom - self.top)
    }

    fn middle(&self) -> f32 {
        (self.left + self.right) / 2.0
    }
}

/// A series through these pixels; a point that is not there interrupts it.
fn draw(canvas: &mut Canvas, mark: Mark, points: &[Option<(f32, f32)>], color: [u8; 3]) {
    for pair in points.windows(2) {
        let [Some(from), Some(to)] = *pair else { continue };
        match mark {
            Mark::Line | Mark::Dotted => canvas.line(from, to, (2.0, color)),
            Mark::Dashed => canvas.dashes(from, to, (2.0, color)),
            Mark::Dots => {}
        }
    }
    if mark != Mark::Line {
        points.iter().flatten().for_each(|&at| canvas.dot(at, DOT_RADIUS, color));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(image: &RgbImage, color: [u8; 3]) -> usize {
        image.pixels().filter(|pixel| pixel.0 == color).count()
    }

    #[test]
    fn each_series_has_its_colour_and_a_place_in_the_legend() -> anyhow::Result<()> {
        let plot = |points: Vec<(f64, f64)>| {
            let axis = || Axis::new("part").with_range(0.0, 1.0);
            Plot::new("Title", axis(), axis()).with_series("dots", Mark::Dots, []).with_series(
                "line",
                Mark::Line,
                points,
            )
        };
        let empty = plot(Vec::new()).draw()?;
        let drawn = plot(vec![(0.0, 0.5), (0.5, 0.5), (0.5, f64::NAN), (1.0, 0.5)]).draw()?;
        // A line of two pixels over half the axis; behind what is no number it does not go on.
        let half = (SIZE.0 as f32 - MARGINS[1] - MARGINS[3]) / 2.0;
        let added = pixels(&drawn, COLORS[1]) - pixels(&empty, COLORS[1]);
        assert!((added as f32 - 2.0 * half).abs() < half, "{added}");
        assert!(pixels(&empty, COLORS[0]) > 0 && pixels(&empty, COLORS[1]) > 0);
        Ok(())
    }
}
