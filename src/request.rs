//! What a caller asks for: pages, a task, a mode, and how to decode.

use crate::Task;
use deepseek_ocr_core::Mode;
use deepseek_ocr_decoder::Sampling;
use deepseek_ocr_preprocess::Page;

/// `max_new_tokens` of the released code.
const MAX_NEW_TOKENS: usize = 8192;

/// Cells of a table, which repeat lawfully.
const TABLE_CELLS: [&str; 2] = ["<td>", "</td>"];

/// One question about one page, or about several.
///
/// ```no_run
/// use deepseek_ocr::{Mode, Page, Request, Task};
///
/// let request = Request::new(Page::open("invoice.png")?).with_mode(Mode::Base).with_task(Task::FreeOcr);
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Request {
    pub(crate) pages: Vec<Page>,
    pub(crate) mode: Mode,
    pub(crate) max_tiles: u32,
    pub(crate) answer: AnswerOptions,
}

/// How an answer is produced, whatever the page.
#[derive(Debug, Clone)]
pub(crate) struct AnswerOptions {
    pub(crate) task: Task,
    pub(crate) sampling: Sampling,
    pub(crate) no_repeat: NoRepeat,
    pub(crate) max_new_tokens: usize,
}

/// Keeps the model from repeating itself for ever.
///
/// Both families of the released code; [`Default`] is [`image`](Self::image).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoRepeat {
    /// No guard.
    Off,
    /// No `ngram` tokens occur twice in prompt and answer (`no_repeat_ngram_size` of transformers).
    Sequence {
        /// Tokens of a sequence that must not come twice.
        ngram: usize,
    },
    /// No `ngram` tokens occur twice within the last `window` tokens of the answer.
    Window {
        /// Tokens of a sequence that must not come twice.
        ngram: usize,
        /// How far back it counts, in tokens.
        window: usize,
        /// Texts of tokens that are never banned; those that the tokenizer lacks are ignored.
        allowed: Vec<String>,
    },
}

impl Request {
    /// The page as Markdown, in mode Gundam, decoded greedily.
    pub fn new(page: impl Into<Page>) -> Self {
        Self {
            pages: vec![page.into()],
            mode: Mode::default(),
            max_tiles: Mode::DEFAULT_MAX_TILES,
            answer: AnswerOptions::default(),
        }
    }

    /// Adds a page; in the prompt each `<image>` stands for one, in this order.
    pub fn with_page(mut self, page: impl Into<Page>) -> Self {
        self.pages.push(page.into());
        self
    }

    /// Sets how many pixels the model sees.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Sets what the model is asked to do.
    pub fn with_task(mut self, task: Task) -> Self {
        self.answer.task = task;
        self
    }

    /// Caps the tiles of the Gundam modes; below 2 the page is not tiled.
    pub fn with_max_tiles(mut self, tiles: u32) -> Self {
        self.max_tiles = tiles;
        self
    }

    /// Sets how the next token is chosen.
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        self.answer.sampling = sampling;
        self
    }

    /// Sets the guard against repetition.
    pub fn with_no_repeat(mut self, no_repeat: NoRepeat) -> Self {
        self.answer.no_repeat = no_repeat;
        self
    }

    /// Sets the most tokens to write; the model's context bounds it too.
    pub fn with_max_new_tokens(mut self, tokens: usize) -> Self {
        self.answer.max_new_tokens = tokens;
        self
    }
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self {
            task: Task::default(),
            sampling: Sampling::Greedy,
            no_repeat: NoRepeat::default(),
            max_new_tokens: MAX_NEW_TOKENS,
        }
    }
}

impl NoRepeat {
    /// The preset of the authors' vLLM script for images: 30 tokens within 90, table cells allowed.
    pub fn image() -> Self {
        Self::window(30, 90)
    }

    /// The preset of the authors' vLLM script for PDF pages: 20 tokens within 50, table cells allowed.
    pub fn pdf() -> Self {
        Self::window(20, 50)
    }

    /// The preset of the authors' vLLM script for benchmarks: 40 tokens within 90, table cells allowed.
    pub fn evaluation() -> Self {
        Self::window(40, 90)
    }

    /// The preset of the authors' transformers code: no 20 tokens twice anywhere.
    pub fn transformers() -> Self {
        Self::Sequence { ngram: 20 }
    }

    /// The preset of the authors' transformers code in evaluation: no 35 tokens twice anywhere.
    pub fn transformers_evaluation() -> Self {
        Self::Sequence { ngram: 35 }
    }

    fn window(ngram: usize, window: usize) -> Self {
        Self::Window { ngram, window, allowed: TABLE_CELLS.map(str::to_owned).to_vec() }
    }
}

impl Default for NoRepeat {
    fn default() -> Self {
        Self::image()
    }
}

impl From<Page> for Request {
    fn from(page: Page) -> Self {
        Self::new(page)
    }
}

impl From<&Page> for Request {
    fn from(page: &Page) -> Self {
        Self::new(page.clone())
    }
}
