//! Text to glyphs: which font has a character, and how HarfBuzz's rules set a piece of text in it.
//!
//! Pieces are what stands between two opportunities for a line break, so that a line is made of whole pieces and none has
//! to be shaped again when lines change. Each is shaped by itself and kept: a page's words come again and again.

use super::{
    characters::{is_ignorable, is_invisible, is_no_break},
    compose::is_separator,
    font::Font,
    frame::{Frame, scaled},
    work,
};
use harfrust::{Buffer, Direction, Feature, GlyphId, Script, ShapeOptions, ShapePlan, ShaperFont, Tag};
use std::{collections::HashMap, ops::Range, sync::Arc};
use unicode_script::UnicodeScript;
use unicode_segmentation::UnicodeSegmentation;

/// Longer pieces are no words that come again.
const KEPT_LENGTH: usize = 48;

/// So many kept pieces and then anew: a bound on memory for text without end.
const KEPT_PIECES: usize = 1 << 14;

/// Features that make one glyph of several characters or move them together: in cells each stands for itself.
const OFF_IN_CELLS: [&[u8; 4]; 5] = [b"liga", b"clig", b"dlig", b"calt", b"kern"];

/// A glyph, its place from where its cluster or its line begins, in parts of a pixel, y down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Glyph {
    pub(crate) font: u16,
    pub(crate) id: u32,
    pub(crate) x: i32,
    pub(crate) y: i32,
}

/// Characters that are set as one.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// Byte in the text of the piece.
    pub(crate) at: usize,
    pub(crate) advance: i64,
    pub(crate) kind: Kind,
    pub(crate) glyphs: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ink,
    /// As ink, but nothing is drawn and takes no room.
    Nothing,
    /// White space, which hangs over the end of a line.
    Space,
    Tab,
}

impl Kind {
    /// Whether it is no white space.
    pub(crate) fn is_ink(self) -> bool {
        matches!(self, Self::Ink | Self::Nothing)
    }
}

/// A piece of text as glyphs, clusters in the order of the text.
#[derive(Debug, Default)]
pub(crate) struct Shaped {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) glyphs: Vec<Glyph>,
    /// Characters that no font has, and where they are.
    pub(crate) missing: Vec<(usize, char)>,
}

/// Shapes pieces of text in the fonts of a style.
pub(crate) struct Shaper {
    fonts: Vec<Font>,
    features: Vec<Feature>,
    plans: HashMap<(u16, Script, Way), ShapePlan>,
    kept: HashMap<Way, HashMap<Box<str>, Arc<Shaped>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    LeftToRight,
    RightToLeft,
}

/// Graphemes of one font and script.
struct Run {
    range: Range<usize>,
    font: u16,
    script: Script,
    /// What is drawn in place of a single grapheme.
    sign: Option<&'static str>,
}

impl Shaper {
    pub(crate) fn new(fonts: Vec<Font>, frame: &Frame) -> Self {
        let off = |tag: &[u8; 4]| Feature::new(Tag::new(tag), 0, ..);
        let features = if frame.cell.is_some() { OFF_IN_CELLS.map(off).to_vec() } else { Vec::new() };
        Self { fonts, features, plans: HashMap::new(), kept: HashMap::new() }
    }

    pub(crate) fn shape(&mut self, text: &str, way: Way, frame: &Frame) -> Arc<Shaped> {
        if let Some(shaped) = self.kept.get(&way).and_then(|kept| kept.get(text)) {
            return shaped.clone();
        }
        work::count(text.len());
        let mut shaped = Shaped::default();
        for run in self.runs(text, frame) {
            self.shape_run(text, &run, way, &mut shaped, frame);
        }
        shaped.missing.sort_unstable();
        let shaped = Arc::new(shaped);
        if text.len() <= KEPT_LENGTH {
            let kept = self.kept.entry(way).or_default();
            if kept.len() >= KEPT_PIECES {
                kept.clear();
            }
            kept.insert(text.into(), shaped.clone());
        }
        shaped
    }

    fn runs(&self, text: &str, frame: &Frame) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (at, grapheme) in text.grapheme_indices(true) {
            let sign = sign(grapheme).filter(|_| frame.blocks);
            let (font, script) = (self.font_of(sign.unwrap_or(grapheme)), script_of(grapheme));
            let range = at..at + grapheme.len();
            match runs.last_mut() {
                Some(run) if (run.font, run.sign, sign) == (font, None, None) && joins(run.script, script) => {
                    run.range.end = range.end;
                    run.script = if run.script == Script::COMMON { script } else { run.script };
                }
                _ => runs.push(Run { range, font, script, sign }),
            }
        }
        runs
    }

    /// The first font that has every character of a grapheme, else its first character, else the first font.
    fn font_of(&self, grapheme: &str) -> u16 {
        let drawn = |character: &char| !character.is_whitespace() && !is_ignorable(*character);
        let all = |font: &Font| grapheme.chars().filter(drawn).all(|character| font.covers(character));
        let first = |font: &Font| grapheme.chars().next().is_some_and(|character| font.covers(character));
        let found = self.fonts.iter().position(all).or_else(|| self.fonts.iter().position(first));
        found.unwrap_or(0) as u16
    }

    fn shape_run(&mut self, text: &str, run: &Run, way: Way, shaped: &mut Shaped, frame: &Frame) {
        let font = &self.fonts[usize::from(run.font)];
        let direction = match way {
            Way::LeftToRight => Direction::LeftToRight,
            Way::RightToLeft => Direction::RightToLeft,
        };
        let plan = self
            .plans
            .entry((run.font, run.script, way))
            .or_insert_with(|| ShapePlan::new(font.face(), direction, Some(run.script), None, &self.features));
        let mut buffer = Buffer::new();
        buffer.push_str(run.sign.unwrap_or(&text[run.range.clone()]));
        buffer.set_direction(direction);
        buffer.set_script(Some(run.script));
        let options = ShapeOptions::new().plan(Some(plan)).features(&self.features);
        let done = harfrust::shape(&ShaperFont::new(font.face()), &mut buffer, options);
        if done.is_err() || buffer.is_empty() {
            let characters = text[run.range.clone()].char_indices();
            shaped.missing.extend(characters.map(|(at, character)| (run.range.start + at, character)));
            return;
        }
        let clusters = shaped.clusters.len();
        collect(&buffer, run, shaped, &|units| scaled(units, frame.scale(font)));
        if way == Way::RightToLeft {
            shaped.clusters[clusters..].reverse();
        }
        finish(text, run, font, shaped, clusters, frame);
    }
}

/// Takes over the glyphs of a buffer, in its order.
fn collect(buffer: &Buffer, run: &Run, shaped: &mut Shaped, scaled: &dyn Fn(i64) -> i64) {
    let mut pen = 0;
    let mut current = None;
    for (info, position) in buffer.glyph_infos().iter().zip(buffer.glyph_positions()) {
        let next = shaped.glyphs.len();
        if current != Some(info.cluster) {
            current = Some(info.cluster);
            pen = 0;
            let at = run.range.start + info.cluster as usize;
            shaped.clusters.push(Cluster { at, advance: 0, kind: Kind::Ink, glyphs: next..next });
        }
        let (x, y) = (scaled((pen + position.x_offset).into()), -scaled(position.y_offset.into()));
        shaped.glyphs.push(Glyph { font: run.font, id: info.glyph_id, x: x as i32, y: y as i32 });
        pen = pen.saturating_add(position.x_advance);
        if let Some(cluster) = shaped.clusters.last_mut() {
            cluster.glyphs.end = next + 1;
            cluster.advance = scaled(pen.into()).max(0);
        }
    }
}

/// Kinds, cells and missing characters of the clusters from `first` on, which are in the order of the text.
fn finish(text: &str, run: &Run, font: &Font, shaped: &mut Shaped, first: usize, frame: &Frame) {
    let Shaped { clusters, glyphs, missing } = shaped;
    let mut end = run.range.end;
    for cluster in clusters[first..].iter_mut().rev() {
        let characters = &text[cluster.at..end];
        cluster.kind = match characters.chars().next() {
            _ if frame.blocks => Kind::Ink,
            Some('\t') => Kind::Tab,
            Some(character) if character.is_whitespace() && !is_no_break(character) => Kind::Space,
            _ => Kind::Ink,
        };
        let own = &mut glyphs[cluster.glyphs.clone()];
        if cluster.kind == Kind::Tab {
            cluster.glyphs.end = cluster.glyphs.start;
        } else {
            let lacking = lacking(characters, own, font);
            missing.extend(lacking.map(|(at, character)| (cluster.at + at, character)));
        }
        let shows = |glyph: &Glyph| font.shows(GlyphId::new(glyph.id));
        if cluster.kind == Kind::Ink && cluster.advance == 0 && !own.iter().any(shows) {
            cluster.kind = Kind::Nothing;
        }
        if let (Some(cell), true) = (frame.cell, cluster.advance > 0) {
            let width = cells(cluster.advance, cell) * cell;
            let shift = (width - cluster.advance).div_euclid(2);
            own.iter_mut().for_each(|glyph| glyph.x += shift as i32);
            cluster.advance = width;
        }
        end = cluster.at;
    }
}

/// Characters of a cluster that its glyphs do not show.
fn lacking<'a>(characters: &'a str, own: &[Glyph], font: &'a Font) -> impl Iterator<Item = (usize, char)> + use<'a> {
    let is_box = own.iter().any(|glyph| glyph.id == 0);
    let mut shown = own.iter().map(|glyph| font.shows(GlyphId::new(glyph.id)));
    // Glyphs may stand for several characters together: none is asked for unless something is not shown.
    let (any, all) = (shown.clone().any(|shown| shown), shown.all(|shown| shown));
    let lacks = move |character: char| match (is_box, any) {
        (true, _) => !font.covers(character) && !is_ignorable(character),
        (false, true) => !font.covers(character) && !is_invisible(character),
        (false, false) => !is_invisible(character),
    };
    characters.char_indices().filter(move |&(_, character)| (is_box || !all) && lacks(character))
}

/// What blocks show for a grapheme that would be no more than white space or a new line elsewhere.
fn sign(grapheme: &str) -> Option<&'static str> {
    match grapheme {
        "\t" => Some("\u{2192}"),
        _ if grapheme.starts_with(is_separator) => Some("\u{b6}"),
        _ => None,
    }
}

/// Cells for a character of this width: it may stand out of them by a third, half of that on either side.
fn cells(advance: i64, cell: i64) -> i64 {
    ((advance - cell / 3 + cell - 1).div_euclid(cell)).max(1)
}

fn script_of(grapheme: &str) -> Script {
    let scripts = grapheme.chars().map(|character| character.script());
    let tag = |script: unicode_script::Script| {
        let tag = script.short_name().as_bytes().try_into().ok()?;
        Script::from_iso15924_tag(Tag::new(tag))
    };
    let known = |script: &Script| ![Script::COMMON, Script::INHERITED, Script::UNKNOWN].contains(script);
    scripts.filter_map(tag).find(known).unwrap_or(Script::COMMON)
}

fn joins(run: Script, next: Script) -> bool {
    run == next || run == Script::COMMON || next == Script::COMMON
}
