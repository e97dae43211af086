//! A conversation kept as pages that fade: the older a round, the fewer vision tokens it takes (section 5 of the paper).

mod decay;
mod storage;

pub use decay::Decay;

use crate::{Decompressed, DeepseekOcr, OpticalPage, OpticalText, PageDigest};
use decay::Held;
use deepseek_ocr_core::{Error, Mode, Result};
use deepseek_ocr_decoder::Segment;
use deepseek_ocr_preprocess::{
    Page, Style, TypesetPage,
    image::{DynamicImage, GrayImage, ImageError, ImageFormat, Luma},
};
use std::{fmt, io::Cursor, ops::Range, sync::Arc};

/// Names a round of an [`OpticalMemory`]; it is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId(u64);

/// Rounds of a conversation as pages, in ever fewer vision tokens and never more than a budget.
///
/// A round's text is set on pages once. What is kept is the image of each page, as PNG; its vision tokens are made when they are
/// asked for, in the mode that the round has come to. [`Decay`] says how rounds fade with age. Where that is not enough for
/// the budget, the round whose vision tokens times its age weigh most fades further, or goes when it is at its faintest.
///
/// ```
/// use deepseek_ocr::{Decay, DeepseekOcr, Device, Mode, OpticalMemory, Style};
///
/// let ocr = DeepseekOcr::mini(&Device::default())?;
/// let decay = Decay::new(Mode::Small).then(1, Mode::Tiny);
/// let mut memory = OpticalMemory::new(ocr, Style::mini(), 300).with_decay(decay)?;
/// let text = "It was the best of times, it was the worst of times, ".repeat(50);
/// let first = memory.remember(&text)?;
/// memory.remember("it was the worst of times")?;
/// assert_eq!(memory.vision_tokens(), 73 + 111);
/// assert!(memory.recall(first)?.text().starts_with("It was the best of times"));
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Clone)]
pub struct OpticalMemory {
    ocr: DeepseekOcr,
    style: Style,
    budget: usize,
    decay: Decay,
    rounds: Vec<Kept>,
    /// Time: one for each round that was remembered, and for each call of `fade`.
    clock: u64,
    next: u64,
}

/// What is known of a remembered round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Round {
    /// Its name.
    pub id: RoundId,
    /// How long ago it was remembered: 0 for the newest.
    pub age: u64,
    /// The mode in which it is held.
    pub mode: Mode,
    /// Whether it neither fades nor goes.
    pub pinned: bool,
    /// Vision tokens that it takes.
    pub vision_tokens: usize,
    /// Tokens of its text.
    pub text_tokens: usize,
    /// Bytes of the images of its pages.
    pub image_bytes: usize,
}

/// A round and what is kept of it; a clone shares the images.
#[derive(Clone)]
struct Kept {
    id: RoundId,
    held: Held,
    pages: Arc<[KeptPage]>,
    /// The vision tokens, once they were asked for, of the mode they are in.
    encoded: Option<OpticalText>,
}

struct KeptPage {
    png: Vec<u8>,
    range: Range<usize>,
    text_tokens: usize,
}

impl OpticalMemory {
    /// An empty memory of at most `budget` vision tokens, in which rounds are held in [`Mode::Base`] until the budget makes
    /// them fade.
    ///
    /// Texts are set in `style` on pages of its size, which should be that of the sharpest mode.
    pub fn new(ocr: DeepseekOcr, style: Style, budget: usize) -> Self {
        Self { ocr, style, budget, decay: Decay::default(), rounds: Vec::new(), clock: 0, next: 0 }
    }

    /// Sets how rounds fade with age; what is there fades at once.
    ///
    /// # Errors
    /// None while nothing is pinned; else as [`fade`](Self::fade).
    pub fn with_decay(mut self, decay: Decay) -> Result<Self> {
        self.decay = decay;
        self.settle(self.clock, None)?;
        Ok(self)
    }

    /// Keeps a text as the newest round; the others age by one and fade.
    ///
    /// # Errors
    /// Those of typesetting; [`Error::InvalidRequest`] if the text is empty, or does not fit the budget beside what is pinned even
    /// at its faintest. The memory is then as it was.
    pub fn remember(&mut self, text: &str) -> Result<RoundId> {
        let typeset = Page::typeset(text, &self.style)?;
        if typeset.pages().is_empty() {
            return Err(Error::invalid_request("text", "empty", "something to remember"));
        }
        let page = |set: &TypesetPage| -> Result<KeptPage> {
            let text_tokens = self.ocr.tokenizer().encode(&text[set.range.clone()])?.len();
            Ok(KeptPage { png: png(&set.page)?, range: set.range.clone(), text_tokens })
        };
        let pages: Arc<[KeptPage]> = typeset.pages().iter().map(page).collect::<Result<_>>()?;
        let (id, born) = (RoundId(self.next), self.clock + 1);
        let size = (self.style.width, self.style.height);
        let held = Held { born, mode: self.decay.sharpest(), pinned: false, pages: pages.len(), size };
        self.settle(born, Some(Kept { id, held, pages, encoded: None }))?;
        self.next += 1;
        Ok(id)
    }

    /// Lets time pass as if a round had been remembered.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if what is pinned is over the budget; the memory is then as it was.
    pub fn fade(&mut self) -> Result<()> {
        self.settle(self.clock + 1, None)
    }

    /// Sets the budget; what is over it fades or goes at once.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if what is pinned is over it; the memory is then as it was.
    pub fn set_budget(&mut self, vision_tokens: usize) -> Result<()> {
        let before = std::mem::replace(&mut self.budget, vision_tokens);
        let changed = self.settle(self.clock, None);
        if changed.is_err() {
            self.budget = before;
        }
        changed
    }

    /// Keeps a round in the mode in which it is now, or lets it fade again.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if there is no such round.
    pub fn pin(&mut self, id: RoundId, pin: Pin) -> Result<()> {
        self.kept(id)?.held.pinned = pin == Pin::Hold;
        self.settle(self.clock, None)
    }

    /// Drops a round, a pinned one too.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if there is no such round.
    pub fn forget(&mut self, id: RoundId) -> Result<()> {
        let place = self.place(id)?;
        self.rounds.remove(place);
        Ok(())
    }

    /// The rounds that are remembered, from the oldest to the newest.
    pub fn rounds(&self) -> impl ExactSizeIterator<Item = Round> {
        let clock = self.clock;
        self.rounds.iter().map(move |Kept { id, held, pages, .. }| Round {
            id: *id,
            age: clock - held.born,
            mode: held.mode,
            pinned: held.pinned,
            vision_tokens: held.tokens(),
            text_tokens: pages.iter().map(|page| page.text_tokens).sum(),
            image_bytes: pages.iter().map(|page| page.png.len()).sum(),
        })
    }

    /// Vision tokens of all rounds; never more than [`budget`](Self::budget).
    pub fn vision_tokens(&self) -> usize {
        self.rounds.iter().map(|round| round.held.tokens()).sum()
    }

    /// The most vision tokens.
    pub fn budget(&self) -> usize {
        self.budget
    }

    /// Reads a round back, as clearly as it is still held.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if there is no such round; else as [`DeepseekOcr::decompress`].
    pub fn recall(&mut self, id: RoundId) -> Result<Decompressed> {
        let ocr = self.ocr.clone();
        ocr.decompress(self.kept(id)?.encode(&ocr)?)
    }

    /// The vision tokens of a round in the mode in which it is held.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if there is no such round.
    pub fn encoded(&mut self, id: RoundId) -> Result<&OpticalText> {
        let ocr = self.ocr.clone();
        self.kept(id)?.encode(&ocr)
    }

    /// The whole memory as segments of a prompt, the oldest page first. Text may go before, between and behind them.
    ///
    /// # Errors
    /// A failure of the device.
    pub fn as_segments(&mut self) -> Result<Vec<Segment>> {
        let ocr = self.ocr.clone();
        let mut segments = Vec::new();
        for round in &mut self.rounds {
            segments.extend(round.encode(&ocr)?.pages().iter().map(|page| Segment::Vision(page.vision.clone())));
        }
        Ok(segments)
    }

    fn kept(&mut self, id: RoundId) -> Result<&mut Kept> {
        let place = self.place(id)?;
        Ok(&mut self.rounds[place])
    }

    /// Rounds are in the order of their names.
    fn place(&self, id: RoundId) -> Result<usize> {
        let place = self.rounds.binary_search_by_key(&id, |round| round.id);
        place.map_err(|_| Error::invalid_request("round", id, "one that is still remembered"))
    }

    /// Adds a round, if there is one, and brings all into the budget, or leaves everything as it was.
    fn settle(&mut self, clock: u64, new: Option<Kept>) -> Result<()> {
        let held: Vec<Held> = self.rounds.iter().chain(&new).map(|round| round.held).collect();
        let modes = self.decay.plan(&held, clock, self.budget)?;
        self.rounds.extend(new);
        for (round, mode) in self.rounds.iter_mut().zip(&modes) {
            round.held.mode = mode.unwrap_or(round.held.mode);
        }
        let mut stays = modes.iter().map(Option::is_some);
        self.rounds.retain(|_| stays.next().unwrap_or(true));
        self.clock = clock;
        Ok(())
    }
}

/// Whether a round is held as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pin {
    /// It neither fades nor goes.
    Hold,
    /// It fades with the others.
    Release,
}

impl Kept {
    fn encode(&mut self, ocr: &DeepseekOcr) -> Result<&OpticalText> {
        let mode = self.held.mode;
        let page = |kept: &KeptPage| -> Result<OpticalPage> {
            #[cfg(test)]
            crate::work::add(1);
            let page = Page::from_bytes(&kept.png)?;
            let (vision, digest) = (ocr.encode(&page, mode), PageDigest::of(&page, mode));
            Ok(OpticalPage { vision, range: kept.range.clone(), text_tokens: kept.text_tokens, digest })
        };
        let encoded = match self.encoded.take().filter(|encoded| encoded.mode() == mode) {
            Some(encoded) => encoded,
            None => OpticalText::of_pages(self.pages.iter().map(page).collect::<Result<_>>()?, mode),
        };
        Ok(self.encoded.insert(encoded))
    }
}

/// A page as PNG, in one channel if it has no colour.
fn png(page: &Page) -> Result<Vec<u8>> {
    let rgb = page.rgb();
    let is_grey = rgb.pixels().all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]);
    let image = if is_grey {
        DynamicImage::from(GrayImage::from_fn(rgb.width(), rgb.height(), |x, y| Luma([rgb.get_pixel(x, y).0[0]])))
    } else {
        DynamicImage::from(rgb.clone())
    };
    let mut bytes = Cursor::new(Vec::new());
    let failed = |source: ImageError| Error::Execution { source: source.into() };
    image.write_to(&mut bytes, ImageFormat::Png).map_err(failed)?;
    Ok(bytes.into_inner())
}

impl fmt::Display for RoundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for OpticalMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tokens, budget) = (self.vision_tokens(), self.budget);
        write!(f, "OpticalMemory({} rounds in {tokens} of {budget} vision tokens)", self.rounds.len())
    }
}

#[cfg(all(test, feature = "mini"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::Device;

    #[test]
    fn a_new_round_does_not_have_the_others_encoded_again() {
        let encoded = |rounds: usize| {
            let ocr = DeepseekOcr::mini(&Device::default()).unwrap();
            let decay = Decay::new(Mode::Tiny);
            let mut memory = OpticalMemory::new(ocr, Style::mini(), usize::MAX).with_decay(decay).unwrap();
            crate::work::of(|| {
                for round in 0..rounds {
                    memory.remember("It was the best of times").unwrap();
                    assert_eq!(memory.as_segments().unwrap().len(), round + 1);
                }
            })
        };
        // A page for each round, and each round looked at by the plans of those behind it.
        let plans = |rounds: usize| rounds * (rounds + 1) / 2;
        assert_eq!([1, 8].map(|rounds| encoded(rounds) - plans(rounds)), [1, 8]);
    }
}
