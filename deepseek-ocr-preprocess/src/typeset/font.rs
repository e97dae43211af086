//! Fonts: those that are embedded, those of the user, and what the typesetter asks of one.

use super::{characters::is_invisible, raster};
use deepseek_ocr_core::{Error, Result};
use harfrust::GlyphId;
use std::{
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU8, Ordering},
    },
};

static SANS: LazyLock<Font> = LazyLock::new(|| embedded(include_bytes!("../../fonts/DejaVuSans.ttf")));
static SANS_MONO: LazyLock<Font> = LazyLock::new(|| embedded(include_bytes!("../../fonts/DejaVuSansMono.ttf")));
static SERIF: LazyLock<Font> = LazyLock::new(|| embedded(include_bytes!("../../fonts/DejaVuSerif.ttf")));
#[cfg(feature = "cjk")]
static CJK: LazyLock<Font> = LazyLock::new(|| embedded(include_bytes!("../../fonts/DroidSansFallback.ttf")));

/// A font with outlines (TrueType or CFF). A clone shares the data.
///
/// Three are embedded; together they cover Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian, mathematics and many
/// symbols. Chinese, Japanese and Korean come with the feature `cjk`; other scripts need a font of the user's own
/// ([`Style::with_fallback`](crate::Style::with_fallback)).
///
/// ```
/// use deepseek_ocr_preprocess::Font;
///
/// assert_eq!(Font::serif().name(), "DejaVu Serif");
/// assert!(Font::sans().covers('ж') && !Font::sans().covers('中'));
/// assert!(Font::from_bytes(vec![0; 64]).is_err());
/// ```
#[derive(Clone)]
pub struct Font(Arc<Inner>);

struct Inner {
    face: harfrust::Font,
    data: Data,
    index: u32,
    name: String,
    line: LineMetrics,
    /// What is known of each glyph: [`SHOWN`], [`BLANK`] or 0.
    seen: Box<[AtomicU8]>,
}

/// A glyph that has an outline.
const SHOWN: u8 = 1;

/// A glyph that has none, or a broken one: a space, or what only a colour table draws.
const BLANK: u8 = 2;

enum Data {
    Embedded(&'static [u8]),
    Owned(Arc<Vec<u8>>),
}

/// Heights of a line in font units, both positive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LineMetrics {
    pub(crate) ascent: i64,
    pub(crate) descent: i64,
}

impl Font {
    /// DejaVu Sans: proportional, without serifs; the widest coverage of the three.
    pub fn sans() -> Self {
        SANS.clone()
    }

    /// DejaVu Sans Mono: every character as wide as every other. The font that the mini checkpoint reads.
    pub fn sans_mono() -> Self {
        SANS_MONO.clone()
    }

    /// DejaVu Serif: proportional, with serifs.
    pub fn serif() -> Self {
        SERIF.clone()
    }

    /// Droid Sans Fallback: Chinese (traditional and simplified), Japanese and Korean, and nothing else.
    #[cfg(feature = "cjk")]
    pub fn cjk() -> Self {
        CJK.clone()
    }

    /// A font from the bytes of its file (TTF, OTF).
    ///
    /// # Errors
    /// [`Error::InvalidFont`] if it is none, or lacks outlines, a Unicode character map or the heights of a line.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self> {
        Self::from_collection(bytes, 0)
    }

    /// The font at `index` of a collection (TTC, OTC).
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes); also if there is no such index.
    pub fn from_collection(bytes: impl Into<Vec<u8>>, index: u32) -> Result<Self> {
        Self::read(Data::Owned(Arc::new(bytes.into())), index)
    }

    /// The family's name as the font has it; empty if it has none.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the font can draw this character: it has a glyph for it, with an outline unless the character is white space or
    /// invisible by nature.
    ///
    /// Glyphs that a colour font has only as layers (`COLR`), bitmaps or SVG are not drawn.
    pub fn covers(&self, character: char) -> bool {
        let glyph = self.0.face.charmap().map_unicode(character).filter(|glyph| *glyph != GlyphId::NOTDEF);
        glyph.is_some_and(|glyph| is_invisible(character) || self.shows(glyph))
    }

    /// Whether anything is to be seen of a glyph.
    pub(crate) fn shows(&self, glyph: GlyphId) -> bool {
        let Some(seen) = self.0.seen.get(glyph.to_u32() as usize) else { return false };
        match seen.load(Ordering::Relaxed) {
            0 => {
                let shows = raster::shows(&self.0.face, glyph);
                seen.store(if shows { SHOWN } else { BLANK }, Ordering::Relaxed);
                shows
            }
            known => known == SHOWN,
        }
    }

    /// Every font that is embedded, in the order in which they stand in for one that lacks a character.
    pub(crate) fn all_embedded() -> Vec<Self> {
        vec![
            Self::sans(),
            Self::sans_mono(),
            Self::serif(),
            #[cfg(feature = "cjk")]
            Self::cjk(),
        ]
    }

    pub(crate) fn face(&self) -> &harfrust::Font {
        &self.0.face
    }

    pub(crate) fn units_per_em(&self) -> i64 {
        i64::from(self.0.face.units_per_em())
    }

    pub(crate) fn line(&self) -> LineMetrics {
        self.0.line
    }

    /// Width of a character in font units; that of the em if the font lacks it.
    pub(crate) fn advance(&self, character: char) -> i64 {
        let advance = |glyph| self.0.face.glyph_metrics().h_advance(glyph) as i64;
        self.0.face.charmap().map_unicode(character).map_or(self.units_per_em(), advance)
    }

    fn read(data: Data, index: u32) -> Result<Self> {
        let invalid = |reason| Error::InvalidFont { reason };
        let blob: harfrust::font::Blob = match &data {
            Data::Embedded(bytes) => (*bytes).into(),
            Data::Owned(bytes) => harfrust::font::Blob::Shared(bytes.clone()),
        };
        let face =
            harfrust::Font::new(blob, index).ok_or(invalid("it is no OpenType font, or has none at this index"))?;
        if face.outline_glyphs().source().is_none() || face.outline_glyphs().is_empty() {
            return Err(invalid("it has no outlines"));
        }
        if !face.charmap().has_unicode() {
            return Err(invalid("it has no character map for Unicode"));
        }
        let line = face.metrics().h_line().ok_or(invalid("it does not say how high a line is"))?;
        let (ascent, descent) = (line.ascender.to_f64() as i64, -line.descender.to_f64() as i64);
        let height = ascent.saturating_add(descent);
        if face.units_per_em() == 0 || height <= 0 || height > MAX_LINE_EMS * i64::from(face.units_per_em()) {
            return Err(invalid("the height of its lines makes no sense"));
        }
        let name = family(&face);
        let seen = (0..face.num_glyphs()).map(|_| AtomicU8::new(0)).collect();
        Ok(Self(Arc::new(Inner { face, data, index, name, line: LineMetrics { ascent, descent }, seen })))
    }
}

/// A line higher than this many ems is a mistake in the font: no script needs ten.
const MAX_LINE_EMS: i64 = 10;

fn embedded(bytes: &'static [u8]) -> Font {
    Font::read(Data::Embedded(bytes), 0).expect("the embedded fonts are read by a test")
}

fn family(face: &harfrust::Font) -> String {
    let names = face.names();
    let name = names.get(harfrust::font::name::NameId::FAMILY_NAME).and_then(|name| name.english_or_first());
    name.map(|name| name.name().to_string()).unwrap_or_default()
}

impl Data {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Embedded(bytes) => bytes,
            Self::Owned(bytes) => bytes,
        }
    }
}

/// Fonts are equal when their bytes are.
impl PartialEq for Font {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || (self.0.index == other.0.index && self.0.data.bytes() == other.0.data.bytes())
    }
}

impl Eq for Font {}

impl fmt::Debug for Font {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Font({:?})", self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_fonts_are_read() {
        let names: Vec<String> = Font::all_embedded().iter().map(|font| font.name().to_owned()).collect();
        assert_eq!(names[..3], ["DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif"]);
        let LineMetrics { ascent, descent } = Font::sans_mono().line();
        assert_eq!((ascent, descent, Font::sans_mono().units_per_em()), (1901, 483, 2048));
        assert_eq!(Font::sans_mono().advance('m'), 1233);
    }

    #[test]
    fn fonts_are_equal_by_content() {
        let bytes = include_bytes!("../../fonts/DejaVuSerif.ttf");
        let own = Font::from_bytes(bytes.as_slice()).expect("a font");
        assert_eq!(own, Font::serif());
        assert_ne!(own, Font::sans());
    }

    #[test]
    fn what_is_no_font_is_refused() {
        let bytes = include_bytes!("../../fonts/DejaVuSerif.ttf");
        assert!(matches!(Font::from_bytes(b"".as_slice()), Err(Error::InvalidFont { .. })));
        assert!(matches!(Font::from_bytes(b"GIF89a".as_slice()), Err(Error::InvalidFont { .. })));
        assert!(matches!(Font::from_collection(bytes.as_slice(), 1), Err(Error::InvalidFont { .. })));
        // Cut anywhere it is refused or a font, and never a panic.
        for length in (0..bytes.len()).step_by(4093) {
            if let Ok(font) = Font::from_bytes(&bytes[..length]) {
                font.covers('a');
            }
        }
    }
}
