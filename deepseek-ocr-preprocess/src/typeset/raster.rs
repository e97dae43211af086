//! Outlines to coverage in whole numbers, so that a glyph has the same pixels on every machine.
//!
//! The area that an outline covers of each pixel is exact, up to the 1/256 px to which its points are rounded: each edge adds,
//! row by row, the area to its right in the pixels that it crosses and its height to all pixels behind these; a sum along
//! the row gives the coverage.

use harfrust::font::glyph::outline::{DrawMemory, DrawOptions, PathSink};
use harfrust::{Font, GlyphId};

/// Points are in 1/256 px while areas are summed.
const PIXEL: i64 = 256;

/// Points of curves are in 1/256 of that while they are computed.
const FINE: i64 = 256;

/// Font units come as floating point numbers with halves and, in variable fonts, smaller parts; 1/64 is enough.
const UNIT_PARTS: f32 = 64.0;

/// Twice the area of a pixel: what a covered one sums to.
const FULL: i64 = 2 * PIXEL * PIXEL;

/// A chord is no farther than this from its curve, in fine units: 1/32 px.
const TOLERANCE: i64 = PIXEL * FINE / 32;

/// The most chords of a curve.
const MAX_CHORDS: i64 = 64;

/// No glyph reaches farther from its origin, in ems; those of a broken font are cut there.
const REACH_EMS: i64 = 16;

/// Size of the em, in 1/64 px, at which a glyph that shows anything covers some of a pixel.
const SEEN_SIZE: i64 = 32 * 64;

/// Positions between pixels at which glyphs are drawn, along each axis.
pub(crate) const SUBPIXELS: i64 = 4;

/// How much of each pixel a glyph covers.
#[derive(Debug, Default)]
pub(crate) struct Coverage {
    /// Of the first column, from the glyph's origin.
    pub(crate) left: i32,
    /// Of the first row, from the baseline; rows go down.
    pub(crate) top: i32,
    pub(crate) width: usize,
    /// Row by row.
    pub(crate) alpha: Vec<u8>,
}

/// How an outline is brought to pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Size of the em in 1/64 px.
    pub(crate) size: i64,
    pub(crate) units_per_em: i64,
}

impl Coverage {
    pub(crate) fn height(&self) -> usize {
        self.alpha.len().checked_div(self.width).unwrap_or(0)
    }

    /// The glyph, with its origin `sub` parts of [`SUBPIXELS`] right of and below a pixel's corner.
    ///
    /// Empty if it has no outline.
    pub(crate) fn of(font: &Font, glyph: GlyphId, scale: Scale, sub: (i64, i64)) -> Self {
        let offset = (sub.0 * PIXEL * FINE / SUBPIXELS, sub.1 * PIXEL * FINE / SUBPIXELS);
        // What a broken font drew before its error is kept.
        Self::fill(&outline(font, glyph, scale, offset).0)
    }

    fn fill(edges: &[Edge]) -> Self {
        let points = || edges.iter().flat_map(|&(from, to)| [from, to]);
        let (Some(left), Some(right)) = (points().map(|p| p.0).min(), points().map(|p| p.0).max()) else {
            return Self::default();
        };
        let (Some(top), Some(bottom)) = (points().map(|p| p.1).min(), points().map(|p| p.1).max()) else {
            return Self::default();
        };
        let (left, top) = (left.div_euclid(PIXEL), top.div_euclid(PIXEL));
        // One column more takes what the last one hands on.
        let width = (right.div_euclid(PIXEL) - left + 2) as usize;
        let height = ((bottom + PIXEL - 1).div_euclid(PIXEL) - top).max(1) as usize;
        let mut sums = Sums { width, sums: vec![0; width * height] };
        let shifted = |(x, y): Point| (x - left * PIXEL, y - top * PIXEL);
        for &(from, to) in edges {
            sums.add(shifted(from), shifted(to));
        }
        Self { left: left as i32, top: top as i32, width, alpha: sums.coverage() }
    }
}

/// Whether a font draws anything for a glyph, without an error.
pub(crate) fn shows(font: &Font, glyph: GlyphId) -> bool {
    let scale = Scale { size: SEEN_SIZE, units_per_em: font.units_per_em().into() };
    let (edges, whole) = outline(font, glyph, scale, (0, 0));
    whole && Coverage::fill(&edges).alpha.iter().any(|&alpha| alpha > 0)
}

/// The edges of a glyph, and whether it was drawn to its end.
fn outline(font: &Font, glyph: GlyphId, scale: Scale, offset: Point) -> (Vec<Edge>, bool) {
    let mut path = Path { scale, offset, first: (0, 0), last: (0, 0), edges: Vec::new() };
    let outline = font.outline_glyphs().get(glyph);
    let drawn = outline.map(|outline| outline.draw(&DrawOptions::new(), DrawMemory::Scratch, &mut path));
    path.close();
    (path.edges, drawn.is_some_and(|drawn| drawn.is_ok()))
}

type Point = (i64, i64);
type Edge = (Point, Point);

/// Collects the edges of an outline in 1/256 px, y down.
struct Path {
    scale: Scale,
    offset: Point,
    /// Where the contour began and where it stands, in fine units.
    first: Point,
    last: Point,
    edges: Vec<Edge>,
}

impl Path {
    fn point(&self, x: f32, y: f32) -> Point {
        let Scale { size, units_per_em } = self.scale;
        // `size` is in 1/64 px.
        let reach = REACH_EMS * size * PIXEL * FINE / 64;
        let fine = |units: f32| {
            let parts = (units * UNIT_PARTS).round() as i64;
            let scaled = i128::from(parts) * i128::from(size * PIXEL * FINE);
            let exact = scaled / (UNIT_PARTS as i128 * 64 * i128::from(units_per_em));
            exact.clamp(-i128::from(reach), i128::from(reach)) as i64
        };
        (fine(x) + self.offset.0, self.offset.1 - fine(y))
    }

    fn line(&mut self, to: Point) {
        let coarse = |(x, y): Point| ((x + FINE / 2).div_euclid(FINE), (y + FINE / 2).div_euclid(FINE));
        let (from, end) = (coarse(self.last), coarse(to));
        // Level edges bound no area.
        if from.1 != end.1 {
            self.edges.push((from, end));
        }
        self.last = to;
    }

    /// Chords of a curve of which `at(i, n)` is the point at i / n, and whose second differences are at most `bend`.
    fn chords(&mut self, bend: i64, at: impl Fn(i64, i64) -> Point) {
        // The distance from a chord is at most the second derivative / 8 / n².
        let mut n = 1;
        while n < MAX_CHORDS && n * n * TOLERANCE < bend {
            n += 1;
        }
        for i in 1..=n {
            self.line(at(i, n));
        }
    }
}

/// The largest second difference of three points along an axis.
fn bend(a: Point, b: Point, c: Point) -> i64 {
    (a.0 - 2 * b.0 + c.0).abs().max((a.1 - 2 * b.1 + c.1).abs())
}

impl PathSink for Path {
    fn move_to(&mut self, x: f32, y: f32) {
        self.close();
        self.first = self.point(x, y);
        self.last = self.first;
    }

    fn line_to(&mut self, x: f32, y: f32) {
        self.line(self.point(x, y));
    }

    fn quad_to(&mut self, cx0: f32, cy0: f32, x: f32, y: f32) {
        let (a, b, c) = (self.last, self.point(cx0, cy0), self.point(x, y));
        let axis = |a: i64, b: i64, c: i64, i: i64, n: i64| {
            let m = n - i;
            (m * m * a + 2 * i * m * b + i * i * c) / (n * n)
        };
        // A parabola's second derivative is twice the second difference of its points.
        self.chords(bend(a, b, c) / 4, |i, n| (axis(a.0, b.0, c.0, i, n), axis(a.1, b.1, c.1, i, n)));
    }

    fn curve_to(&mut self, cx0: f32, cy0: f32, cx1: f32, cy1: f32, x: f32, y: f32) {
        let (a, b, c, d) = (self.last, self.point(cx0, cy0), self.point(cx1, cy1), self.point(x, y));
        let axis = |p: [i64; 4], i: i64, n: i64| {
            let m = n - i;
            (m * m * m * p[0] + 3 * i * m * m * p[1] + 3 * i * i * m * p[2] + i * i * i * p[3]) / (n * n * n)
        };
        // A cubic's is six times the larger of its two.
        let bend = bend(a, b, c).max(bend(b, c, d)) * 3 / 4;
        self.chords(bend, |i, n| (axis([a.0, b.0, c.0, d.0], i, n), axis([a.1, b.1, c.1, d.1], i, n)));
    }

    fn close(&mut self) {
        if self.last != self.first {
            self.line(self.first);
        }
    }
}

/// Areas and heights that edges leave in the pixels of a glyph's box.
struct Sums {
    width: usize,
    sums: Vec<i32>,
}

impl Sums {
    fn add(&mut self, from: Point, to: Point) {
        // Downwards; what runs up counts against it.
        let (sign, (x0, y0), (x1, y1)) = if from.1 < to.1 { (1, from, to) } else { (-1, to, from) };
        let x_at = |y: i64| x0 + ((x1 - x0) * (y - y0)).div_euclid(y1 - y0);
        let (mut y, mut x) = (y0, x0);
        while y < y1 {
            let row = y / PIXEL;
            let next = ((row + 1) * PIXEL).min(y1);
            let next_x = if next == y1 { x1 } else { x_at(next) };
            self.add_in_row(row as usize, (x, next_x), sign * (next - y));
            (y, x) = (next, next_x);
        }
    }

    /// An edge from `x.0` to `x.1` within a row, `height` high, negative when it runs up.
    fn add_in_row(&mut self, row: usize, (from, to): (i64, i64), height: i64) {
        let (left, right) = (from.min(to), from.max(to));
        let (first, last) = (left / PIXEL, right / PIXEL);
        if first == last {
            return self.add_to_pixel(row, first, from + to - 2 * first * PIXEL, height);
        }
        let mut done = 0;
        for column in first..=last {
            let start = (column * PIXEL).max(left);
            let end = ((column + 1) * PIXEL).min(right);
            let until = if column == last { height } else { height * (end - left) / (right - left) };
            self.add_to_pixel(row, column, start + end - 2 * column * PIXEL, until - done);
            done = until;
        }
    }

    /// Part of an edge within one pixel; `twice_x` is twice its mean distance from the pixel's left side.
    fn add_to_pixel(&mut self, row: usize, column: i64, twice_x: i64, height: i64) {
        let at = row * self.width + column as usize;
        self.sums[at] += (height * (2 * PIXEL - twice_x)) as i32;
        // An edge on the right side of the box's last pixel leaves nothing behind it.
        if let Some(next) = self.sums.get_mut(at + 1) {
            *next += (height * twice_x) as i32;
        }
    }

    fn coverage(&self) -> Vec<u8> {
        let mut alpha = Vec::with_capacity(self.sums.len());
        for row in self.sums.chunks_exact(self.width) {
            let mut sum = 0i64;
            alpha.extend(row.iter().map(|&part| {
                sum += i64::from(part);
                ((sum.abs() * 255 + FULL / 2) / FULL).min(255) as u8
            }));
        }
        alpha
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Font;
    use proptest::prelude::*;

    const SIZE: Scale = Scale { size: 20 * 64, units_per_em: 2048 };

    fn polygon(points: &[Point]) -> Coverage {
        let edges = points.iter().zip(points.iter().cycle().skip(1)).map(|(&a, &b)| (a, b));
        Coverage::fill(&edges.filter(|(a, b)| a.1 != b.1).collect::<Vec<_>>())
    }

    #[test]
    fn a_rectangle_covers_its_parts_of_pixels() {
        // From (0.5, 0.25) to (2.25, 2).
        let found = polygon(&[(128, 64), (576, 64), (576, 512), (128, 512)]);
        assert_eq!((found.left, found.top, found.width, found.height()), (0, 0, 4, 2));
        assert_eq!(found.alpha, [96, 191, 48, 0, 128, 255, 64, 0]);
    }

    #[test]
    fn winding_does_not_matter_and_overlap_does_not_darken() {
        let square = [(0, 0), (256, 0), (256, 256), (0, 256)];
        let back: Vec<_> = square.iter().rev().copied().collect();
        assert_eq!(polygon(&square).alpha, polygon(&back).alpha);
        let twice: Vec<Edge> = [square, square].iter().flat_map(|s| [(s[1], s[2]), (s[3], s[0])]).collect();
        assert_eq!(Coverage::fill(&twice).alpha, [255, 0, 0]);
    }

    #[test]
    fn a_glyph_moves_with_its_origin() {
        let font = Font::sans_mono();
        let glyph = font.face().charmap().map_unicode('g').expect("covered");
        let sum = |c: &Coverage| c.alpha.iter().map(|&a| u32::from(a)).sum::<u32>();
        let still = Coverage::of(font.face(), glyph, SIZE, (0, 0));
        assert!(still.top < -5 && still.top + still.height() as i32 > 2, "it stands on the line and hangs below it");
        for sub in [(1, 0), (0, 3), (2, 2)] {
            let moved = Coverage::of(font.face(), glyph, SIZE, sub);
            assert_ne!(moved.alpha, still.alpha);
            // The ink is the same up to the rounding of points.
            assert!(sum(&moved).abs_diff(sum(&still)) * 100 < sum(&still), "{sub:?}");
        }
    }

    #[test]
    fn a_space_covers_nothing() {
        let font = Font::sans();
        let glyph = font.face().charmap().map_unicode(' ').expect("covered");
        assert!(Coverage::of(font.face(), glyph, SIZE, (3, 3)).alpha.is_empty());
    }

    proptest! {
        #[test]
        fn the_coverage_of_a_triangle_is_its_area(points in prop::array::uniform3((-3000i64..3000, -3000i64..3000))) {
            let [a, b, c] = points;
            let twice = ((b.0 - a.0) * (c.1 - a.1) - (c.0 - a.0) * (b.1 - a.1)).abs();
            let found: i64 = polygon(&points).alpha.iter().map(|&a| i64::from(a)).sum();
            let expected = twice as f64 / (2 * PIXEL * PIXEL) as f64;
            // Each pixel on the boundary is rounded, by half a level and by the division of the crossing points.
            let boundary = 3.0 * 2.0 * 6000.0 / PIXEL as f64;
            prop_assert!((found as f64 / 255.0 - expected).abs() <= boundary / 255.0 * 2.0 + 1e-9);
        }
    }
}
