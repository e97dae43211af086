//! The table of a run as a picture: losses above, accuracies below, over the characters that were read.

use crate::log::TABLE;
use anyhow::{Context, Result, ensure};
use deepseek_ocr::{Font, Margins, Page, Style};
use image::{Rgb, RgbImage};
use std::{collections::BTreeMap, fs, path::Path};

const SIZE: [u32; 2] = [960, 720];
/// Left, top, right and bottom of the upper panel; the lower one lies `PANEL` below.
const FRAME: [f64; 4] = [80.0, 40.0, 930.0, 340.0];
const PANEL: f64 = 330.0;
const INK: Rgb<u8> = Rgb([40; 3]);
const FAINT: Rgb<u8> = Rgb([222; 3]);
/// Training first, then held-out pages by height.
const COLOURS: [Rgb<u8>; 8] = [
    Rgb([160, 160, 160]),
    Rgb([31, 119, 180]),
    Rgb([44, 160, 44]),
    Rgb([214, 39, 40]),
    Rgb([148, 103, 189]),
    Rgb([255, 127, 14]),
    Rgb([140, 86, 75]),
    Rgb([23, 190, 207]),
];
/// Labels' size in pixels.
const LETTER: f32 = 13.0;

/// A row of the table.
struct Row {
    tokens: f64,
    /// Rows of tokens and kind of the pages.
    pages: (usize, String),
    loss: f64,
    accuracy: f64,
}

/// Where values lie in a panel: from the lowest, at the bottom, to the highest.
struct Panel {
    top: f64,
    bottom: f64,
    low: f64,
    high: f64,
}

/// Draws the table of `run` into a PNG.
pub(crate) fn draw(run: &Path, picture: &Path) -> Result<()> {
    let rows = read(&run.join(TABLE))?;
    let end = rows.iter().map(|row| row.tokens).fold(1.0, f64::max);
    let [left, top, right, bottom] = FRAME;
    let mut image = RgbImage::from_pixel(SIZE[0], SIZE[1], Rgb([255; 3]));
    let logs = rows.iter().map(|row| row.loss.max(1e-3).log10());
    let (low, high) = logs.fold((0.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
    let losses = Panel { top, bottom, low: low.floor(), high: high.ceil().max(1.0) };
    let shares = Panel { top: top + PANEL, bottom: bottom + PANEL, low: 0.0, high: 1.0 };
    for power in losses.low as i32..=losses.high as i32 {
        losses.line(&mut image, f64::from(power), &format!("{}", 10f64.powi(power)))?;
    }
    for tenths in (0..=10).step_by(2) {
        shares.line(&mut image, f64::from(tenths) / 10.0, &format!("{} %", tenths * 10))?;
    }
    let across = |tokens: f64| left + (right - left) * tokens / end;
    for part in 0..=5 {
        let tokens = end * f64::from(part) / 5.0;
        write(&mut image, &format!("{:.2} M", tokens / 1e6), [across(tokens) - 25.0, bottom + PANEL + 8.0], INK)?;
    }
    write(&mut image, "cross entropy of a character", [left, top - 24.0], INK)?;
    write(&mut image, "characters foreseen, knowing those before", [left, top + PANEL - 24.0], INK)?;
    let mut kinds: BTreeMap<&(usize, String), Vec<&Row>> = BTreeMap::new();
    rows.iter().for_each(|row| kinds.entry(&row.pages).or_default().push(row));
    for (index, ((height, kind), rows)) in kinds.into_iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        let points = |value: fn(&Row) -> f64, panel: &Panel| -> Vec<[f64; 2]> {
            rows.iter().map(|row| [across(row.tokens), panel.at(value(row))]).collect()
        };
        line(&mut image, &points(|row| row.loss.max(1e-3).log10(), &losses), colour);
        line(&mut image, &points(|row| row.accuracy, &shares), colour);
        let label = match height {
            0 => "training".to_owned(),
            height => format!("held out, {} px high {kind}", height * 64),
        };
        write(&mut image, &label, [right - 240.0, top + 6.0 + 18.0 * index as f64], colour)?;
    }
    image.save(picture).with_context(|| picture.display().to_string())
}

impl Panel {
    fn at(&self, value: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * (value - self.low) / (self.high - self.low)
    }

    /// A line across and what it stands for.
    fn line(&self, image: &mut RgbImage, value: f64, label: &str) -> Result<()> {
        let at = self.at(value);
        line(image, &[[FRAME[0], at], [FRAME[2], at]], FAINT);
        write(image, label, [16.0, at - 9.0], INK)
    }
}

fn read(path: &Path) -> Result<Vec<Row>> {
    let table = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let &[_, tokens, _, rows, _, loss, accuracy, ..] = fields.as_slice() else { return None };
        let number = |field: &str| field.parse().unwrap_or(f64::NAN);
        // Tables of older runs end with a number.
        let kind = fields.last().filter(|field| field.parse::<f64>().is_err()).copied().unwrap_or_default();
        let pages = (number(rows) as usize, kind.to_owned());
        Some(Row { tokens: number(tokens), pages, loss: number(loss), accuracy: number(accuracy) })
    };
    let rows: Vec<Row> = table.lines().skip(1).filter_map(row).collect();
    ensure!(!rows.is_empty(), "{}: no rows yet", path.display());
    Ok(rows)
}

/// A line through points, two pixels thick.
fn line(image: &mut RgbImage, points: &[[f64; 2]], colour: Rgb<u8>) {
    for pair in points.windows(2) {
        let [[x, y], [to_x, to_y]] = [pair[0], pair[1]];
        let steps = (to_x - x).abs().max((to_y - y).abs()).ceil().max(1.0);
        for step in 0..=steps as usize {
            let part = step as f64 / steps;
            let (x, y) = ((x + (to_x - x) * part) as u32, (y + (to_y - y) * part) as u32);
            for (x, y) in [(x, y), (x, y + 1)] {
                if x < image.width() && y < image.height() {
                    image.put_pixel(x, y, colour);
                }
            }
        }
    }
}

/// Text whose top left corner is at a point.
fn write(image: &mut RgbImage, text: &str, [x, y]: [f64; 2], colour: Rgb<u8>) -> Result<()> {
    let style = Style::default().with_page(320, 20).with_margins(Margins::default()).with_font(Font::sans());
    let typeset = Page::typeset(text, &style.with_size(LETTER).with_ink(colour.0))?;
    let page = &typeset.pages()[0].page;
    for (column, row, pixel) in page.rgb().enumerate_pixels() {
        let (x, y) = (x as i64 + i64::from(column), y as i64 + i64::from(row));
        if let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y))
            && x < image.width()
            && y < image.height()
            && pixel.0 != [255; 3]
        {
            image.put_pixel(x, y, *pixel);
        }
    }
    Ok(())
}
