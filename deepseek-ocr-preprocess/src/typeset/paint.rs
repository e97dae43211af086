//! Lines to pixels.

use super::{
    compose::Line,
    font::Font,
    frame::{Frame, snapped},
    raster::Coverage,
    shape::Glyph,
    style::Style,
};
use crate::Page;
use harfrust::GlyphId;
use image::RgbImage;
use std::{collections::HashMap, ops::Range, sync::Arc};

/// So many glyphs are kept and then anew: a bound on memory for text in many scripts.
const KEPT_GLYPHS: usize = 1 << 14;

/// Grows to whatever rows are joined to it.
const NO_ROWS: Range<i64> = Range { start: i64::MAX, end: i64::MIN };

/// Draws lines on pages.
pub(crate) struct Painter {
    fonts: Vec<Font>,
    width: u32,
    height: u32,
    paper: [u8; 3],
    /// The colour of a pixel of paper by how much of it is covered.
    shades: Vec<[u8; 3]>,
    ink: [u8; 3],
    kept: HashMap<Key, Arc<Coverage>>,
}

/// A glyph and its place between pixels.
type Key = (u16, u32, i64, i64);

/// A glyph on its page, by its box's corner.
struct Stamp {
    coverage: Arc<Coverage>,
    x: i64,
    y: i64,
}

impl Painter {
    pub(crate) fn new(style: &Style, fonts: Vec<Font>) -> Self {
        let Style { width, height, paper, ink, .. } = *style;
        let shades = (0..=u8::MAX).map(|covered| mixed(paper, ink, covered)).collect();
        Self { fonts, width, height, paper, shades, ink, kept: HashMap::new() }
    }

    /// A page with these lines on it.
    pub(crate) fn page(&mut self, lines: &[Line], frame: &Frame) -> Page {
        let mut pixels = self.blank(0..self.height as usize);
        let rows = 0..i64::from(self.height);
        for line in lines {
            self.draw(line, frame, &rows, &mut pixels);
        }
        let image = RgbImage::from_raw(self.width, self.height, pixels);
        Page::from(image.expect("the buffer has three bytes for each pixel"))
    }

    /// Draws the rows of a page anew on which lines were that changed.
    ///
    /// `old` lines were on the page from line `changed` on; `lines` are now.
    pub(crate) fn repaint(&mut self, page: &mut Page, lines: &[Line], frame: &Frame, (changed, old): (usize, &[Line])) {
        let mut rows = NO_ROWS;
        for line in old.iter().chain(&lines[changed..]) {
            let own = self.rows(line, frame);
            rows = rows.start.min(own.start)..rows.end.max(own.end);
        }
        let rows = rows.start.max(0)..rows.end.min(i64::from(self.height));
        if rows.is_empty() {
            return;
        }
        let stride = self.width as usize * 3;
        let pixels: &mut [u8] = page.rgb_mut();
        let blank = self.blank(rows.start as usize..rows.end as usize);
        pixels[rows.start as usize * stride..rows.end as usize * stride].copy_from_slice(&blank);
        for line in lines {
            self.draw(line, frame, &rows, pixels);
        }
    }

    fn blank(&self, rows: Range<usize>) -> Vec<u8> {
        let pixels = self.width as usize * rows.len();
        match self.paper {
            [red, green, blue] if red == green && green == blue => vec![red; pixels * 3],
            paper => paper.repeat(pixels),
        }
    }

    /// The rows of the page on which a line has ink.
    fn rows(&mut self, line: &Line, frame: &Frame) -> Range<i64> {
        let stamps = line.glyphs.iter().map(|glyph| self.stamp(glyph, line, frame));
        stamps.fold(NO_ROWS, |rows, stamp| {
            let end = stamp.y + stamp.coverage.height() as i64;
            rows.start.min(stamp.y)..rows.end.max(end)
        })
    }

    fn draw(&mut self, line: &Line, frame: &Frame, rows: &Range<i64>, pixels: &mut [u8]) {
        for glyph in &line.glyphs {
            let stamp = self.stamp(glyph, line, frame);
            self.lay(&stamp, rows, pixels);
        }
    }

    fn stamp(&mut self, glyph: &Glyph, line: &Line, frame: &Frame) -> Stamp {
        let (left, baseline) = frame.origin(line.slot % frame.slots());
        let (x, sub_x) = snapped(left + i64::from(glyph.x));
        let (y, sub_y) = snapped(baseline + i64::from(glyph.y));
        if self.kept.len() >= KEPT_GLYPHS {
            self.kept.clear();
        }
        let font = &self.fonts[usize::from(glyph.font)];
        let drawn = || Coverage::of(font.face(), GlyphId::new(glyph.id), frame.scale(font), (sub_x, sub_y)).into();
        let coverage = self.kept.entry((glyph.font, glyph.id, sub_x, sub_y)).or_insert_with(drawn).clone();
        Stamp { x: i64::from(x + coverage.left), y: i64::from(y + coverage.top), coverage }
    }

    /// Lays ink on the rows of a page, as far as the glyph is on it.
    fn lay(&self, stamp: &Stamp, rows: &Range<i64>, pixels: &mut [u8]) {
        let Stamp { coverage, x, y } = stamp;
        let (width, page_width) = (coverage.width as i64, i64::from(self.width));
        let columns = (-x).clamp(0, width) as usize..(page_width - x).clamp(0, width) as usize;
        if columns.is_empty() {
            return;
        }
        for (row, alpha) in (*y..).zip(coverage.alpha.chunks_exact(coverage.width)) {
            if !rows.contains(&row) {
                continue;
            }
            let start = (row * page_width + x + columns.start as i64) as usize * 3;
            let on_page = pixels[start..start + columns.len() * 3].as_chunks_mut::<3>().0;
            for (pixel, &covered) in on_page.iter_mut().zip(&alpha[columns.clone()]) {
                if covered == 0 {
                    continue;
                }
                *pixel = if *pixel == self.paper {
                    self.shades[usize::from(covered)]
                } else {
                    mixed(*pixel, self.ink, covered)
                };
            }
        }
    }
}

/// A colour with `covered` parts of 255 of another over it.
fn mixed(under: [u8; 3], over: [u8; 3], covered: u8) -> [u8; 3] {
    let covered = u32::from(covered);
    std::array::from_fn(|channel| {
        let sum = u32::from(under[channel]) * (255 - covered) + u32::from(over[channel]) * covered;
        ((sum + 127) / 255) as u8
    })
}
