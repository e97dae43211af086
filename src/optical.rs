//! Text as vision tokens and back: *contexts optical compression* (section 1 of the paper).

pub(crate) mod storage;

pub use storage::TokenFormat;

use crate::{DeepseekOcr, NoRepeat, Task, Transcript, request::AnswerOptions};
use deepseek_ocr_core::{Mode, Result, VisionTokens};
use deepseek_ocr_preprocess::{Compression, Fitted, Missing, Page, Style, Typeset, TypesetPage};
use sha2::{Digest, Sha256};
use std::{
    collections::{HashMap, VecDeque},
    fmt,
    ops::Range,
};

/// A page's answer may be this many times as long as its text was, and a few tokens more: a model that repeats itself for
/// ever is stopped there.
const LONGEST_ANSWER: usize = 2;
const SPARE_TOKENS: usize = 32;

/// Text as the vision tokens of the pages on which it was set; see [`DeepseekOcr::compress`].
#[derive(Debug, Clone)]
pub struct OpticalText {
    pages: Vec<OpticalPage>,
    mode: Mode,
    text_tokens: usize,
    missing: Vec<Missing>,
}

/// A page of text as vision tokens.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct OpticalPage {
    /// The page's vision tokens; equal pages share them.
    pub vision: VisionTokens,
    /// Bytes of the text that the page holds.
    pub range: Range<usize>,
    /// Tokens of that text as the model's tokenizer counts them.
    pub text_tokens: usize,
    /// What the page looks like, and in which mode it was encoded: pages with the same digest have the same vision tokens.
    pub digest: PageDigest,
}

/// SHA-256 of a page's mode, size and pixels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageDigest([u8; 32]);

/// Vision tokens by the digest of their page, so that equal pages are encoded once. Of one model.
///
/// ```
/// use deepseek_ocr::{DeepseekOcr, Device, EncodedPages, Mode, Style};
///
/// let ocr = DeepseekOcr::mini(&Device::default())?;
/// let mut encoded = EncodedPages::new(100);
/// ocr.compress_with("the same page\x0cthe same page\x0c", &Style::mini(), Mode::Tiny, &mut encoded)?;
/// assert_eq!(encoded.len(), 1);
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct EncodedPages {
    most: usize,
    pages: HashMap<PageDigest, VisionTokens>,
    /// In the order in which they came.
    order: VecDeque<PageDigest>,
}

/// What a model read from an [`OpticalText`].
#[derive(Debug, Clone, PartialEq)]
pub struct Decompressed {
    pages: Vec<Transcript>,
}

impl DeepseekOcr {
    /// Sets text on pages and compresses each into vision tokens.
    ///
    /// Lines that the style breaks are read back as lines: [`decompress`](Self::decompress) gives the text as it stands on the
    /// pages. What the fonts cannot draw is in [`OpticalText::missing`].
    ///
    /// ```
    /// use deepseek_ocr::{DeepseekOcr, Device, Mode, Style};
    ///
    /// let ocr = DeepseekOcr::mini(&Device::default())?;
    /// let text = "It was the best of times, it was the worst of times, ".repeat(50);
    /// let optical = ocr.compress(&text, &Style::mini(), Mode::Tiny)?;
    /// assert_eq!(optical.vision_tokens(), 73);
    /// assert!(ocr.decompress(&optical)?.text().starts_with("It was the best of times"));
    /// # Ok::<(), deepseek_ocr::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidStyle`](crate::Error::InvalidStyle), [`Error::Tokenizer`](crate::Error::Tokenizer).
    pub fn compress(&self, text: &str, style: &Style, mode: Mode) -> Result<OpticalText> {
        self.compress_with(text, style, mode, &mut EncodedPages::new(usize::MAX))
    }

    /// Like [`compress`](Self::compress), with the pages of earlier texts at hand.
    ///
    /// # Errors
    /// As [`compress`](Self::compress).
    pub fn compress_with(
        &self,
        text: &str,
        style: &Style,
        mode: Mode,
        encoded: &mut EncodedPages,
    ) -> Result<OpticalText> {
        let typeset = Page::typeset(text, &style.clone().with_mode(mode))?;
        self.compress_typeset(text, &typeset, mode, encoded)
    }

    /// Compresses the pages on which `text` was set.
    fn compress_typeset(
        &self,
        text: &str,
        typeset: &Typeset,
        mode: Mode,
        encoded: &mut EncodedPages,
    ) -> Result<OpticalText> {
        let page = |TypesetPage { page, range, .. }: &TypesetPage| -> Result<OpticalPage> {
            let digest = PageDigest::of(page, mode);
            let vision = encoded.get_or_encode(digest, || self.encode(page, mode));
            let text_tokens = self.tokenizer().encode(&text[range.clone()])?.len();
            Ok(OpticalPage { vision, range: range.clone(), text_tokens, digest })
        };
        let pages = typeset.pages().iter().map(page).collect::<Result<_>>()?;
        let text_tokens = self.tokenizer().encode(text)?.len();
        Ok(OpticalText { pages, mode, text_tokens, missing: typeset.missing().to_vec() })
    }

    /// Reads compressed text back, pages together.
    ///
    /// No guard against repetition is set, since text may repeat itself; an answer that becomes twice as long as its page's
    /// text is ended as [`Finish::Length`](crate::Finish::Length).
    ///
    /// # Errors
    /// [`Error::VisionTokensWidth`](crate::Error::VisionTokensWidth) if the tokens are another model's; else as
    /// [`generate`](Self::generate).
    pub fn decompress(&self, optical: &OpticalText) -> Result<Decompressed> {
        let answer = |page: &OpticalPage| {
            let max_new_tokens = LONGEST_ANSWER * page.text_tokens + SPARE_TOKENS;
            let answer = AnswerOptions {
                task: Task::FreeOcr,
                no_repeat: NoRepeat::Off,
                max_new_tokens,
                ..AnswerOptions::default()
            };
            (answer, page.vision.clone())
        };
        Ok(Decompressed { pages: self.decode_together(optical.pages.iter().map(answer).collect())? })
    }

    /// Sets text at the largest size at which `ratio` of its tokens, as this model counts them, come to a vision token.
    ///
    /// See [`Page::typeset_to_fit`].
    ///
    /// # Errors
    /// As [`Page::typeset_to_fit`]; [`Error::Tokenizer`](crate::Error::Tokenizer).
    pub fn typeset_to_fit(&self, text: &str, style: &Style, mode: Mode, ratio: f64) -> Result<Fitted> {
        let tokens = self.tokenizer().encode(text)?.len();
        Page::typeset_to_fit(text, style, Compression::new(mode, ratio, tokens))
    }
}

impl OpticalText {
    /// Pages that were encoded one by one.
    pub(crate) fn of_pages(pages: Vec<OpticalPage>, mode: Mode) -> Self {
        let text_tokens = pages.iter().map(|page| page.text_tokens).sum();
        Self { pages, mode, text_tokens, missing: Vec::new() }
    }

    /// The pages in their order.
    pub fn pages(&self) -> &[OpticalPage] {
        &self.pages
    }

    /// The mode in which the pages were encoded.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Vision tokens of all pages, line ends and separators included.
    pub fn vision_tokens(&self) -> usize {
        self.pages.iter().map(|page| page.vision.len()).sum()
    }

    /// Tokens of the text as the model's tokenizer counts them.
    pub fn text_tokens(&self) -> usize {
        self.text_tokens
    }

    /// Text tokens for one vision token.
    pub fn ratio(&self) -> f64 {
        self.text_tokens as f64 / self.vision_tokens().max(1) as f64
    }

    /// Characters that are not on the pages; see [`Missing`].
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }
}

impl Decompressed {
    /// The lines as they were read; a line feed is between two pages.
    pub fn text(&self) -> String {
        let pages: Vec<_> = self.pages.iter().map(|page| page.text().trim_end_matches('\n')).collect();
        pages.join("\n")
    }

    /// What was read from each page, how sure the model was, and why it ended.
    pub fn pages(&self) -> &[Transcript] {
        &self.pages
    }
}

impl fmt::Display for Decompressed {
    /// The [`text`](Self::text).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl PageDigest {
    /// The digest of a page as it is encoded in `mode`.
    pub fn of(page: &Page, mode: Mode) -> Self {
        let mut hash = Sha256::new();
        hash.update(mode.to_string());
        hash.update([0]);
        hash.update(page.width().to_le_bytes());
        hash.update(page.height().to_le_bytes());
        hash.update(page.rgb().as_raw());
        Self(hash.finalize().into())
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for PageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageDigest({self})")
    }
}

impl EncodedPages {
    /// Keeps the last `pages` pages.
    pub fn new(pages: usize) -> Self {
        Self { most: pages, pages: HashMap::new(), order: VecDeque::new() }
    }

    /// Pages that are kept.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// The vision tokens of a page, if they are kept.
    pub fn get(&self, digest: &PageDigest) -> Option<&VisionTokens> {
        self.pages.get(digest)
    }

    /// Keeps the pages of a text, one that was loaded for example.
    pub fn extend(&mut self, text: &OpticalText) {
        text.pages.iter().for_each(|page| self.insert(page.digest, &page.vision));
    }

    fn get_or_encode(&mut self, digest: PageDigest, encode: impl FnOnce() -> VisionTokens) -> VisionTokens {
        if let Some(vision) = self.pages.get(&digest) {
            return vision.clone();
        }
        let vision = encode();
        self.insert(digest, &vision);
        vision
    }

    fn insert(&mut self, digest: PageDigest, vision: &VisionTokens) {
        if self.pages.insert(digest, vision.clone()).is_none() {
            self.order.push_back(digest);
        }
        while self.pages.len() > self.most {
            let Some(oldest) = self.order.pop_front() else { return };
            self.pages.remove(&oldest);
        }
    }
}
