//! What was read: text, Markdown, regions in pixels, and how it ended.

mod corners;
mod grounding;
mod tags;

use crate::stream::Source;
use deepseek_ocr_decoder::{Answer, Finish};

/// A finished answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
    pub(crate) probabilities: Vec<f32>,
    pub(crate) finish: Finish,
    pub(crate) usage: Usage,
    pub(crate) page_size: Option<(u32, u32)>,
}

/// Tokens that a request took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Vision tokens of all pages, line ends and separators included.
    pub vision_tokens: usize,
    /// Tokens of the whole prompt, vision tokens included.
    pub prompt_tokens: usize,
    /// Tokens of the answer, without the one that ends it.
    pub text_tokens: usize,
}

/// A part of a page that the model located.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// What it is (`title`, `text`, `table`, `image`, ..) or what was searched.
    pub label: String,
    /// Where it is: at least one box, several where the part is not connected.
    pub boxes: Vec<PixelBox>,
    /// The text that follows it, up to the next region, trimmed.
    pub text: String,
}

/// A rectangle in pixels of the page as the user sees it, origin at the top left.
///
/// It can be cut out of the page: it lies on it, and has at least one pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PixelBox {
    /// Left edge.
    pub x1: u32,
    /// Upper edge.
    pub y1: u32,
    /// Right edge, exclusive: more than `x1`, at most the page's width.
    pub x2: u32,
    /// Lower edge, exclusive: more than `y1`, at most the page's height.
    pub y2: u32,
}

impl Transcript {
    pub(crate) fn new(answer: Answer, text: String, source: Source) -> Self {
        let Answer { ids, probabilities, finish } = answer;
        let Source { page_size, vision_tokens, prompt_tokens } = source;
        let usage = Usage { vision_tokens, prompt_tokens, text_tokens: ids.len() };
        Self { text, ids, probabilities, finish, usage, page_size }
    }

    /// A transcript of text that was written earlier, for its [`markdown`](Self::markdown) and [`regions`](Self::regions).
    ///
    /// ```
    /// use deepseek_ocr::Transcript;
    ///
    /// let written = "<|ref|>title<|/ref|><|det|>[[0, 0, 999, 100]]<|/det|>\n# Hello";
    /// let region = &Transcript::parse(written, (2000, 1000)).regions()[0];
    /// assert_eq!((region.label.as_str(), region.boxes[0].x2, region.boxes[0].y2), ("title", 2000, 100));
    /// ```
    pub fn parse(text: impl Into<String>, page_size: (u32, u32)) -> Self {
        let (ids, probabilities, usage) = (Vec::new(), Vec::new(), Usage::default());
        Self { text: text.into(), ids, probabilities, finish: Finish::Stop, usage, page_size: Some(page_size) }
    }

    /// What the model wrote, to the letter, regions' tags included; only the token that ends it is left out.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text as Markdown: tags removed, pictures as `![](images/K.jpg)` with `K` counting them from 0.
    ///
    /// This is the `result.mmd` of the released code. The crops themselves are [`regions`](Self::regions) labelled `image`.
    ///
    /// Tags are known in the forms in which they are handed around: `<|ref|>title<|/ref|><|det|>[[83, 36, 914, 97]]<|/det|>`, with the
    /// label inside (`<|det|>title [83, 36, 914, 97]<|/det|>`), and without special tokens: then only at the start of a line, with a
    /// label of the model's layouts and one box, so that `see table[[1, 2, 3, 4]]` is text. A tag at which the answer was cut off goes
    /// too, as do the end token and marks of pages (`<PAGE>`).
    pub fn markdown(&self) -> String {
        grounding::markdown(self.text.trim())
    }

    /// The located parts in reading order, of tags in every form that [`markdown`](Self::markdown) knows.
    ///
    /// Corners are put in order and boxes clamped to the page; one without width or height becomes a pixel wide or high, and a polygon the box
    /// around it. A tag whose boxes cannot be read is left out. So is every tag on a page without pixels.
    ///
    /// In pixels of the (first) page; on a grid of 1000 where the page's size is not known, as after
    /// [`DeepseekOcr::decode`](crate::DeepseekOcr::decode) of stored vision tokens.
    pub fn regions(&self) -> Vec<Region> {
        grounding::regions(&self.text, self.page_size.unwrap_or((999, 999)))
    }

    /// Ids of the answer's tokens.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The model's probability of each chosen token, before guards and sampling.
    pub fn probabilities(&self) -> &[f32] {
        &self.probabilities
    }

    /// Geometric mean of [`probabilities`](Self::probabilities), 0 to 1; 1 for an empty answer.
    ///
    /// It tells how sure the model was of what it wrote, not how much of the page is there.
    pub fn confidence(&self) -> f32 {
        let logs = self.probabilities.iter().map(|p| f64::from(p.max(f32::MIN_POSITIVE)).ln());
        let mean = logs.sum::<f64>() / self.probabilities.len().max(1) as f64;
        mean.exp() as f32
    }

    /// Why the text ends where it ends.
    pub fn finish(&self) -> Finish {
        self.finish
    }

    /// Tokens taken.
    pub fn usage(&self) -> Usage {
        self.usage
    }
}

impl Usage {
    /// Text tokens to a vision token: above 1 the page was cheaper than its text.
    pub fn compression_ratio(&self) -> f64 {
        self.text_tokens as f64 / self.vision_tokens.max(1) as f64
    }
}

impl std::fmt::Display for Transcript {
    /// The [`text`](Self::text).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}
