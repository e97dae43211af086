//! Pages of each mode, density and kind, set, encoded and read back.

use crate::{
    baseline,
    precision::Precision,
    reader::{Passage, Reader},
    table::{Table, rounded},
    text::Kind,
};
use anyhow::{Context, bail};
use deepseek_ocr::{Compression, Font, Margins, Mode, Page, Style, Task, Tokenizer, VisionTokens};
use std::{fmt, ops::Range, str::FromStr, time::Instant};

/// How much text stands on a page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Density {
    /// Cells on the grid of vision tokens, in a font whose characters are all as wide: lines and characters to a token.
    Cells(u32, u32),
    /// Text tokens to a vision token, in the blocks that the mini checkpoint reads; a page is full or less than that.
    Blocks(f64),
    /// Text tokens to a vision token, in a font whose characters differ, at the largest size that fits.
    Ratio(f64),
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The modes; only those with one view.
    pub modes: Vec<Mode>,
    /// How much text stands on a page.
    pub densities: Vec<Density>,
    /// What text.
    pub kinds: Vec<Kind>,
    /// Pages of each mode, density and kind.
    pub pages: usize,
    /// How many of these pages the pooled baseline reads: it takes far more time than it is worth.
    pub pooled: usize,
    /// Fonts for what the embedded ones lack.
    pub fonts: Vec<Font>,
}

/// Pages of one mode, density and kind, and what became of them.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The mode.
    pub mode: Mode,
    /// The density.
    pub density: Density,
    /// The kind.
    pub kind: Kind,
    /// Text tokens over the tokens of patches, as the paper counts.
    pub ratio: f64,
    /// What the model read.
    pub optical: Precision,
    /// Of as many text tokens as the page has vision tokens, the rest cut off.
    pub truncated: Precision,
    /// Of text embeddings averaged in groups down to as many as the page has vision tokens.
    pub pooled: Precision,
    /// Of all text embeddings in the page's place: whether the model repeats what it is given at all.
    pub unpooled: Precision,
}

/// A text on its page.
#[derive(Debug, Clone)]
pub struct Sheet {
    /// The page.
    pub page: Page,
    /// What stands on it.
    pub truth: String,
}

/// Patches of a page view: vision tokens without line ends and separator. The paper counts these.
pub fn patches(mode: Mode) -> usize {
    (mode.geometry().page_side / TOKEN_SIDE).pow(2) as usize
}

/// Pixels of the page view that become a vision token, each way.
const TOKEN_SIDE: u32 = 64;

/// What a density of blocks begins with.
const BLOCKS: &str = "blocks:";

/// Around text that is not in cells, in parts of the page's side.
const MARGIN: u32 = 32;

impl Plan {
    /// Measures everything; `done` hears of each cell.
    ///
    /// # Errors
    /// Those of typesetting and of the model.
    pub fn measure(&self, reader: &Reader, mut done: impl FnMut(&Cell)) -> anyhow::Result<(Vec<Cell>, Table)> {
        let mut table = Table::new(&[
            "mode",
            "density",
            "kind",
            "page",
            "characters",
            "text_tokens",
            "vision_tokens",
            "ratio",
            "ratio_with_separators",
            "precision_characters",
            "precision_words",
            "precision_tokens",
            "text_bytes",
            "png_bytes",
            "seconds_encode",
        ]);
        let mut cells = Vec::new();
        for &mode in &self.modes {
            for &density in &self.densities {
                for &kind in &self.kinds {
                    let cell = self.cell(reader, (mode, density, kind), &mut table);
                    let cell = cell.with_context(|| format!("{mode}, {density}, {}", kind.name()))?;
                    done(&cell);
                    cells.push(cell);
                }
            }
        }
        Ok((cells, table))
    }

    fn cell(
        &self,
        reader: &Reader,
        (mode, density, kind): (Mode, Density, Kind),
        table: &mut Table,
    ) -> anyhow::Result<Cell> {
        let tokenizer = &reader.tokenizer;
        let sheet = |number| self.sheet((mode, density, kind), number, tokenizer);
        let sheets = (0..self.pages).map(sheet).collect::<anyhow::Result<Vec<_>>>()?;
        let started = Instant::now();
        let encode = |sheet: &'_ Sheet| -> anyhow::Result<VisionTokens> {
            let vision = reader.ocr.encode(&sheet.page, mode);
            // A device may compute later; what is read back was computed.
            vision.to_data()?;
            Ok(vision)
        };
        let encoded = sheets.iter().map(encode).collect::<anyhow::Result<Vec<_>>>()?;
        let encoding = started.elapsed().as_secs_f64() / sheets.len() as f64;
        let budget = encoded.first().map_or(0, VisionTokens::len);
        let truths: Vec<&str> = sheets.iter().map(|sheet| sheet.truth.as_str()).collect();
        // The pages and both baselines, read together.
        let page = |(vision, &truth): (VisionTokens, &_)| Passage { vision, truth, task: Task::FreeOcr };
        let mut passages: Vec<Passage<'_>> = encoded.into_iter().zip(&truths).map(page).collect();
        let few = &truths[..self.pooled.min(truths.len())];
        for budget in [budget, usize::MAX] {
            let pooled = few.iter().map(|truth| baseline::pooled(reader, truth, budget));
            passages.extend(pooled.collect::<anyhow::Result<Vec<_>>>()?);
        }
        let read = reader.read(&passages)?;
        let precision = |(read, passage): (&String, &Passage<'_>)| Precision::of(read, passage.truth, tokenizer);
        let precisions: Vec<_> = read.iter().zip(&passages).map(precision).collect::<deepseek_ocr::Result<_>>()?;
        let (optical, pooled) = precisions.split_at(sheets.len());
        let (pooled, unpooled) = pooled.split_at(few.len());
        let mut tokens = 0;
        for (number, (sheet, precision)) in sheets.iter().zip(optical).enumerate() {
            let (truth, count) = (&sheet.truth, tokenizer.encode(&sheet.truth)?.len());
            let share = |number: f64| rounded(number, 4);
            tokens += count;
            table.push(&[
                &mode,
                &density,
                &kind.name(),
                &number,
                &truth.chars().count(),
                &count,
                &budget,
                &rounded(count as f64 / patches(mode) as f64, 3),
                &rounded(count as f64 / budget as f64, 3),
                &share(precision.characters),
                &share(precision.words),
                &share(precision.tokens),
                &truth.len(),
                &png_bytes(&sheet.page)?,
                &rounded(encoding, 4),
            ]);
        }
        let ratio = tokens as f64 / (patches(mode) * sheets.len()) as f64;
        let mean = |precisions: &[Precision]| Precision::mean(precisions.iter().copied());
        Ok(Cell {
            mode,
            density,
            kind,
            ratio,
            optical: mean(optical),
            truncated: baseline::truncated(tokenizer, &truths, budget)?,
            pooled: mean(pooled),
            unpooled: mean(unpooled),
        })
    }

    /// A page and its text.
    ///
    /// # Errors
    /// Those of typesetting; if a font is missing.
    pub fn sheet(
        &self,
        (mode, density, kind): (Mode, Density, Kind),
        number: usize,
        tokenizer: &Tokenizer,
    ) -> anyhow::Result<Sheet> {
        let (text, typeset) = match density {
            Density::Cells(lines, characters) => {
                let text = kind.sample(number, patches(mode) * (lines * characters) as usize);
                let style = self.with_fonts(cells(mode, lines, characters));
                let typeset = Page::typeset(&text, &style)?;
                (text, typeset)
            }
            Density::Blocks(ratio) => {
                let text = of_tokens(kind, number, (ratio * patches(mode) as f64) as usize, tokenizer)?;
                let typeset = Page::typeset(&text, &self.with_fonts(Style::mini().with_mode(mode)))?;
                (text, typeset)
            }
            Density::Ratio(ratio) => {
                let wanted = (ratio * patches(mode) as f64) as usize;
                let text = of_tokens(kind, number, wanted, tokenizer)?;
                let style = Style::default().with_margins(Margins::all(mode.geometry().page_side / MARGIN));
                // More than one page never fits this; on one page the size is the largest that does.
                let one_page = Compression::new(mode, f64::from(u32::MAX), wanted);
                (text.clone(), Page::typeset_to_fit(&text, &self.with_fonts(style), one_page)?.typeset)
            }
        };
        if let Some(missing) = typeset.missing().first() {
            bail!("no font has {:?}; name one with --font", missing.character);
        }
        let page = typeset.pages().first().context("a page holds no text")?;
        let lines: Vec<&str> = page.lines.iter().map(|line: &Range<usize>| &text[line.clone()]).collect();
        // A block's end is no line's end.
        let between = if matches!(density, Density::Blocks(_)) { "" } else { "\n" };
        Ok(Sheet { page: page.page.clone(), truth: lines.join(between) })
    }

    fn with_fonts(&self, style: Style) -> Style {
        self.fonts.iter().cloned().fold(style, Style::with_fallback)
    }
}

/// What is shown of all cells.
pub fn summary(cells: &[Cell]) -> Table {
    let mut table = Table::new(&[
        "mode",
        "density",
        "kind",
        "ratio",
        "characters",
        "words",
        "tokens",
        "truncated_characters",
        "truncated_words",
        "truncated_tokens",
        "pooled_characters",
        "unpooled_characters",
    ]);
    for cell in cells {
        let share = |number: f64| rounded(number, 4);
        table.push(&[
            &cell.mode,
            &cell.density,
            &cell.kind.name(),
            &rounded(cell.ratio, 3),
            &share(cell.optical.characters),
            &share(cell.optical.words),
            &share(cell.optical.tokens),
            &share(cell.truncated.characters),
            &share(cell.truncated.words),
            &share(cell.truncated.tokens),
            &share(cell.pooled.characters),
            &share(cell.unpooled.characters),
        ]);
    }
    table
}

/// Cells over the whole page.
pub(crate) fn cells(mode: Mode, lines: u32, characters: u32) -> Style {
    let style = Style::default().with_mode(mode).with_margins(Margins::default());
    style.with_font(Font::sans_mono()).with_aligned(lines, characters)
}

/// The beginning of a sample that has so many tokens.
fn of_tokens(kind: Kind, number: usize, tokens: usize, tokenizer: &Tokenizer) -> anyhow::Result<String> {
    // Enough for most kinds, else doubled.
    let mut characters = 4 * tokens;
    loop {
        let ids = tokenizer.encode(&kind.sample(number, characters))?;
        if ids.len() >= tokens {
            let text = tokenizer.decode(&ids[..tokens])?;
            // A character in several tokens may be cut.
            return Ok(text.trim_end_matches(char::REPLACEMENT_CHARACTER).trim_end().to_owned());
        }
        characters *= 2;
    }
}

fn png_bytes(page: &Page) -> anyhow::Result<usize> {
    use deepseek_ocr::preprocess::image::{DynamicImage, ImageFormat};
    let mut bytes = std::io::Cursor::new(Vec::new());
    let grey = DynamicImage::from(page.rgb().clone()).to_luma8();
    grey.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner().len())
}

impl fmt::Display for Density {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cells(lines, characters) => write!(f, "{lines}x{characters}"),
            Self::Blocks(ratio) => write!(f, "{BLOCKS}{ratio}"),
            Self::Ratio(ratio) => write!(f, "{ratio}"),
        }
    }
}

impl FromStr for Density {
    type Err = String;

    /// `2x5`: lines and characters to a vision token; `10`: text tokens to one; `blocks:10`: text tokens to one, in blocks.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is neither LINESxCHARACTERS nor a ratio");
        let ratio = |text: &str| text.parse().ok().filter(|ratio| (0.1..=100.0).contains(ratio)).ok_or_else(wrong);
        if let Some(of_blocks) = text.strip_prefix(BLOCKS) {
            return Ok(Self::Blocks(ratio(of_blocks)?));
        }
        Ok(match text.split_once('x') {
            Some((lines, characters)) => {
                let number = |part: &str| part.parse().ok().filter(|part| (1..=32).contains(part)).ok_or_else(wrong);
                Self::Cells(number(lines)?, number(characters)?)
            }
            None => Self::Ratio(ratio(text)?),
        })
    }
}
