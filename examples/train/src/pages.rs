//! Pages drawn for training: set by the library, then blotted a little.

use crate::{
    corpus::{self, Corpus},
    curriculum::Flow,
    layout::{LEADING, Spot, Widths, flowing, in_flow, on_grid},
    random::Random,
    recipe::Arrangement,
};
use deepseek_ocr::{Font, Margins, Page, Style};

/// Pixels of the side of what becomes one vision token.
pub(crate) const TOKEN: usize = 64;

/// Tokens in a row of a page of the mode Tiny.
pub(crate) const COLUMNS: usize = 8;

/// Most pixels that a page is moved by.
const SHIFT: i32 = 2;

/// Of the pages with random strings, those whose words mix cases and digits.
const CODES: f64 = 0.3;

/// What is drawn on pages.
#[derive(Clone, Copy)]
pub(crate) struct Drawing<'a> {
    pub corpus: &'a Corpus,
    pub layout: Layout<'a>,
    /// Share of random strings.
    pub strings: f64,
    /// Share of filled pages.
    pub full: f64,
}

/// How text lies on pages.
#[derive(Clone, Copy)]
pub(crate) enum Layout<'a> {
    /// Lines and characters to a token.
    Grid([u32; 2], Arrangement),
    /// In a font's own widths; each of the fonts as often.
    Flow(Flow, &'a [(Font, Widths)]),
}

/// A page and what stands on it.
pub(crate) struct Drawn {
    /// Grey, row by row, `COLUMNS` tokens wide.
    pub pixels: Vec<u8>,
    pub text: String,
    /// Where each character of the text stands, and its end.
    pub spots: Vec<Spot>,
}

/// The style of a density, on a page of so many rows of tokens.
pub(crate) fn style([lines, characters]: [u32; 2], arrangement: Arrangement, rows: usize) -> Style {
    let page = Style::default().with_page((COLUMNS * TOKEN) as u32, (rows * TOKEN) as u32);
    let page = page.with_margins(Margins::default()).with_font(Font::sans_mono());
    match arrangement {
        Arrangement::Lines => page.with_aligned(lines, characters),
        Arrangement::Blocks => page.with_blocks(lines, characters),
    }
}

/// More characters than a page of a style holds: on average they are wider than a third of the em.
pub(crate) fn room(style: &Style) -> usize {
    (3.0 * style.width as f32 * style.height as f32 / (style.size * style.size)) as usize
}

impl Arrangement {
    /// The text of a page's lines.
    pub(crate) fn text(self, lines: &[impl AsRef<str>]) -> String {
        let lines: Vec<&str> = lines.iter().map(AsRef::as_ref).collect();
        lines.join(if self == Self::Blocks { "" } else { "\n" })
    }
}

impl Layout<'_> {
    /// A style, and the font's widths where they matter.
    fn style(&self, rows: usize, random: &mut Random) -> (Style, Option<&Widths>) {
        match *self {
            Self::Grid(density, arrangement) => {
                let mut style = style(density, arrangement, rows);
                if random.fraction() < 0.2 {
                    style.size -= 1.0;
                }
                (style, None)
            }
            Self::Flow(flow, fonts) => {
                let (font, widths) = &fonts[random.below(fonts.len())];
                let [from, to] = flow.sizes;
                let size = (from + random.fraction() as f32 * (to - from)).round();
                let margins = [0; 2].map(|_| random.between(flow.margins[0] as i32, flow.margins[1] as i32) as u32);
                (flowing(font.clone(), size, margins, rows), Some(widths))
            }
        }
    }

    /// Lines of a page of so many rows of tokens.
    fn lines(&self, style: &Style, rows: usize) -> usize {
        match *self {
            Self::Grid([lines, _], Arrangement::Blocks) => COLUMNS * rows * lines as usize,
            Self::Grid([lines, _], Arrangement::Lines) => rows * lines as usize,
            Self::Flow(..) => ((style.height - style.margins.top) as f32 / (style.size * LEADING)) as usize,
        }
    }

    fn spots(&self, lines: &[String], style: &Style, widths: Option<&Widths>) -> Vec<Spot> {
        match (*self, widths) {
            (Self::Grid(density, arrangement), _) => on_grid(lines, density, arrangement),
            (Self::Flow(..), Some(widths)) => in_flow(lines, style, widths),
            (Self::Flow(..), None) => Vec::new(),
        }
    }

    /// The text of a page's lines.
    fn text(&self, lines: &[String]) -> String {
        match self {
            Self::Grid(_, arrangement) => arrangement.text(lines),
            Self::Flow(..) => Arrangement::Lines.text(lines),
        }
    }
}

impl Drawing<'_> {
    /// A page with the marks of paper, ink and scanner.
    pub(crate) fn draw(&self, rows: usize, random: &mut Random) -> anyhow::Result<Drawn> {
        let (mut style, widths) = self.layout.style(rows, random);
        if random.fraction() < 0.4 {
            style.ink = [random.between(0, 60) as u8; 3];
            style.paper = [random.between(230, 255) as u8; 3];
        }
        let room = room(&style);
        let mut text = match random.fraction() < self.strings {
            true if random.fraction() < CODES => corpus::codes(random, room),
            true => corpus::strings(random, room),
            false => self.corpus.prose(random, room),
        };
        let mut typeset = Page::typeset(&text, &style)?;
        let most = self.layout.lines(&style, rows);
        let lines = if random.fraction() < self.full { most } else { some(most, random) };
        if let Some(line) = typeset.pages()[0].lines.get(lines) {
            text.truncate(line.start);
            typeset = Page::typeset(text.trim_end(), &style)?;
        }
        let page = &typeset.pages()[0];
        let lines: Vec<String> = page.lines.iter().map(|line| text[line.clone()].to_owned()).collect();
        let grey: Vec<u8> = page.page.rgb().pixels().map(|pixel| pixel.0[0]).collect();
        let shift = [0; 2].map(|_| random.between(-SHIFT, SHIFT));
        let mut pixels = shifted(&grey, COLUMNS * TOKEN, shift, style.paper[0]);
        if random.fraction() < 0.3 {
            let spread = 2.0 + 6.0 * random.fraction();
            for pixel in &mut pixels {
                *pixel = (f64::from(*pixel) + spread * random.normal()).round().clamp(0.0, 255.0) as u8;
            }
        }
        Ok(Drawn { pixels, spots: self.layout.spots(&lines, &style, widths), text: self.layout.text(&lines) })
    }
}

/// A number up to `most`, as often below its square root as above.
fn some(most: usize, random: &mut Random) -> usize {
    ((most as f64).powf(random.fraction()) as usize).clamp(1, most)
}

/// A picture moved down and to the right, with `paper` where it was.
fn shifted(pixels: &[u8], width: usize, [down, right]: [i32; 2], paper: u8) -> Vec<u8> {
    let height = pixels.len() / width;
    let from = |to: usize, by: i32, side: usize| usize::try_from(to as i32 - by).ok().filter(|&at| at < side);
    let pixel = |index: usize| match (from(index / width, down, height), from(index % width, right, width)) {
        (Some(row), Some(column)) => pixels[row * width + column],
        _ => paper,
    };
    (0..pixels.len()).map(pixel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_short_as_often_as_long() {
        let mut random = Random::new(1, 2);
        let drawn: Vec<usize> = (0..4000).map(|_| some(320, &mut random)).collect();
        assert!(drawn.iter().all(|lines| (1..=320).contains(lines)) && drawn.iter().max() > Some(&300));
        let share =
            |from: usize, to: usize| drawn.iter().filter(|&&lines| lines >= from && lines < to).count() as f64 / 4000.0;
        assert!(
            (share(1, 18) - 0.5).abs() < 0.04 && (share(1, 2) - 0.12).abs() < 0.03,
            "{} {}",
            share(1, 18),
            share(1, 2)
        );
    }

    #[test]
    fn a_picture_moves_and_leaves_paper_behind() {
        assert_eq!(shifted(&[1, 2, 3, 4, 5, 6], 3, [0, 1], 9), [9, 1, 2, 9, 4, 5]);
        assert_eq!(shifted(&[1, 2, 3, 4, 5, 6], 3, [-1, -1], 9), [5, 6, 9, 9, 9, 9]);
    }
}
