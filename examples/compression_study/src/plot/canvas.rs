//! What plots are drawn on: smooth strokes, dots and letters.

use deepseek_ocr::{
    Margins, Page, Style,
    preprocess::image::{Rgb, RgbImage},
};

/// A dash and the gap behind it, in pixels.
const DASH: (f32, f32) = (7.0, 5.0);

/// A page that letters are set on before they are laid over the canvas.
const LETTERS: (u32, u32) = (860, 28);

/// Which part of a text stands at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Start,
    Middle,
    End,
}

pub(super) struct Canvas {
    image: RgbImage,
}

impl Canvas {
    /// A white one.
    pub(super) fn new((width, height): (u32, u32)) -> Self {
        Self { image: RgbImage::from_pixel(width, height, Rgb([255; 3])) }
    }

    pub(super) fn into_image(self) -> RgbImage {
        self.image
    }

    /// A line so wide, in pixels, with round ends.
    pub(super) fn line(&mut self, from: (f32, f32), to: (f32, f32), (width, color): (f32, [u8; 3])) {
        let reach = width / 2.0 + 1.0;
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let squared = (dx * dx + dy * dy).max(f32::EPSILON);
        let low = (from.0.min(to.0) - reach, from.1.min(to.1) - reach);
        let high = (from.0.max(to.0) + reach, from.1.max(to.1) + reach);
        self.shade(low, high, color, |x, y| {
            let along = (((x - from.0) * dx + (y - from.1) * dy) / squared).clamp(0.0, 1.0);
            let (away_x, away_y) = (x - from.0 - along * dx, y - from.1 - along * dy);
            width / 2.0 + 0.5 - away_x.hypot(away_y)
        });
    }

    /// A dashed line.
    pub(super) fn dashes(&mut self, from: (f32, f32), to: (f32, f32), pen: (f32, [u8; 3])) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |along: f32| {
            let part = (along / length).min(1.0);
            (from.0 + part * (to.0 - from.0), from.1 + part * (to.1 - from.1))
        };
        let mut along = 0.0;
        while along < length {
            self.line(at(along), at(along + DASH.0), pen);
            along += DASH.0 + DASH.1;
        }
    }

    /// A filled circle.
    pub(super) fn dot(&mut self, at: (f32, f32), radius: f32, color: [u8; 3]) {
        let reach = radius + 1.0;
        let (low, high) = ((at.0 - reach, at.1 - reach), (at.0 + reach, at.1 + reach));
        self.shade(low, high, color, |x, y| radius + 0.5 - (x - at.0).hypot(y - at.1));
    }

    /// A line of text; `at` is its upper edge and the part of it that `place` says.
    pub(super) fn text(&mut self, text: &str, at: (f32, f32), (place, size): (Place, f32)) -> anyhow::Result<()> {
        let style = Style::default().with_page(LETTERS.0, LETTERS.1).with_margins(Margins::default()).with_size(size);
        let Some(letters) = Page::typeset(text, &style)?.into_pages().into_iter().next() else { return Ok(()) };
        let letters = letters.rgb();
        let inked = |&x: &u32| (0..letters.height()).any(|y| letters.get_pixel(x, y).0[0] < 255);
        let width = (0..letters.width()).rev().find(inked).map_or(0, |x| x + 1);
        let left = match place {
            Place::Start => at.0,
            Place::Middle => at.0 - width as f32 / 2.0,
            Place::End => at.0 - width as f32,
        };
        let (left, top) = (left.round() as i64, at.1.round() as i64);
        for (x, y, ink) in letters.enumerate_pixels() {
            let inside = |at: i64, end: u32| u32::try_from(at).ok().filter(|&at| at < end);
            let x = inside(left + i64::from(x), self.image.width());
            let y = inside(top + i64::from(y), self.image.height());
            if let (Some(x), Some(y)) = (x, y) {
                let pixel = self.image.get_pixel_mut(x, y);
                pixel.0 = std::array::from_fn(|channel| pixel.0[channel].min(ink.0[channel]));
            }
        }
        Ok(())
    }

    /// Lays a colour over the pixels of a rectangle, each as far as `coverage` says of its centre.
    fn shade(&mut self, low: (f32, f32), high: (f32, f32), color: [u8; 3], coverage: impl Fn(f32, f32) -> f32) {
        let (width, height) = self.image.dimensions();
        let span = |low: f32, high: f32, end: u32| (low.max(0.0) as u32)..(high.max(0.0) as u32 + 1).min(end);
        for y in span(low.1, high.1, height) {
            for x in span(low.0, high.0, width) {
                let covered = coverage(x as f32 + 0.5, y as f32 + 0.5).clamp(0.0, 1.0);
                let pixel = self.image.get_pixel_mut(x, y);
                for (channel, ink) in pixel.0.iter_mut().zip(color) {
                    *channel = (f32::from(*channel) * (1.0 - covered) + f32::from(ink) * covered).round() as u8;
                }
            }
        }
    }
}
