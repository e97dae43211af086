//! Lines to pixels.

use super::{
    compose::Line,
    font::Font,
    frame::{Frame, snapped},
    raster::Coverage,
    shape::Glyph,
    style::Style,
    work,
};
use crate::Page;
use harfrust::GlyphId;
use image::RgbImage;
use std::{collections::HashMap, ops::Range, sync::Arc};

/// So many glyphs are kept and then anew: a bound on memory for text in many scripts.
const KEPT_GLYPHS: usize = 1 << 14;

/// So many pixels of glyphs are kept and then anew: at large sizes glyphs take more memory than pages.
const KEPT_PIXELS: usize = 1 << 26;

/// Grows to whatever rows are joined to it.
const NO_ROWS: Range<i64> = Range { start: i64::MAX, end: i64::MIN };

/// Draws lines on pages.
pub(crate) struct Painter {
    fonts: Vec<Font>,
    width: u32,
    height: u32,
    /// A page without ink.
    empty: Page,
    paper: [u8; 3],
    /// The colour of a pixel of paper by how much of it is covered.
    shades: Vec<[u8; 3]>,
    ink: [u8; 3],
    kept: HashMap<Key, Arc<Coverage>>,
    kept_pixels: usize,
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
        let empty = Page::from(RgbImage::from_pixel(width, height, image::Rgb(paper)));
        Self { fonts, width, height, empty, paper, shades, ink, kept: HashMap::new(), kept_pixels: 0 }
    }

    /// A page with these lines on it.
    pub(crate) fn page(&mut self, lines: &[Line], frame: &Frame) -> Page {
        let mut page = self.empty.clone();
        self.draw_on(&mut page, lines, 0, frame);
        page
    }

    /// Draws lines over what is on a page; the first `known` glyphs are there.
    fn draw_on(&mut self, page: &mut Page, lines: &[Line], mut known: usize, frame: &Frame) {
        let rows = 0..i64::from(self.height);
        for line in lines {
            let glyphs = &line.glyphs[known..];
            known = 0;
            // Pages without ink share their pixels.
            if glyphs.iter().any(|glyph| !self.stamp(glyph, line, frame).coverage.alpha.is_empty()) {
                self.draw((line, glyphs), frame, &rows, page.rgb_mut());
            }
        }
    }

    /// Draws the rows of a page anew on which lines were that changed.
    ///
    /// `old` lines were on the page from line `changed` on; `lines` are now.
    pub(crate) fn repaint(&mut self, page: &mut Page, lines: &[Line], frame: &Frame, (changed, old): (usize, &[Line])) {
        if let Some(known) = extended(old, &lines[changed..]) {
            return self.draw_on(page, &lines[changed..], known, frame);
        }
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
        let bytes = rows.start as usize * stride..rows.end as usize * stride;
        pixels[bytes.clone()].copy_from_slice(&self.empty.rgb().as_raw()[bytes]);
        for line in lines {
            self.draw((line, &line.glyphs), frame, &rows, pixels);
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

    fn draw(&mut self, (line, glyphs): (&Line, &[Glyph]), frame: &Frame, rows: &Range<i64>, pixels: &mut [u8]) {
        for glyph in glyphs {
            let stamp = self.stamp(glyph, line, frame);
            self.lay(&stamp, rows, pixels);
        }
    }

    fn stamp(&mut self, glyph: &Glyph, line: &Line, frame: &Frame) -> Stamp {
        work::count(1);
        let (left, baseline) = frame.origin(line.slot % frame.slots());
        let (x, sub_x) = snapped(left + i64::from(glyph.x));
        let (y, sub_y) = snapped(baseline + i64::from(glyph.y));
        if self.kept.len() >= KEPT_GLYPHS || self.kept_pixels >= KEPT_PIXELS {
            self.kept.clear();
            self.kept_pixels = 0;
        }
        let font = &self.fonts[usize::from(glyph.font)];
        let drawn = || {
            let coverage = Coverage::of(font.face(), GlyphId::new(glyph.id), frame.scale(font), (sub_x, sub_y));
            self.kept_pixels += coverage.alpha.len();
            coverage.into()
        };
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

/// How many glyphs of the first of `lines` are drawn already, if all that `old` lines show is the start of what `lines` show.
fn extended(old: &[Line], lines: &[Line]) -> Option<usize> {
    let [old] = old else { return old.is_empty().then_some(0) };
    let new = lines.first().filter(|line| line.slot == old.slot)?;
    new.glyphs.starts_with(&old.glyphs).then_some(old.glyphs.len())
}

/// A colour with `covered` parts of 255 of another over it.
fn mixed(under: [u8; 3], over: [u8; 3], covered: u8) -> [u8; 3] {
    let covered = u32::from(covered);
    std::array::from_fn(|channel| {
        let sum = u32::from(under[channel]) * (255 - covered) + u32::from(over[channel]) * covered;
        ((sum + 127) / 255) as u8
    })
}
