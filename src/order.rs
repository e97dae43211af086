//! A request on its way to the decoder: checked and cut into views, then encoded.

use crate::{DeepseekOcr, Request, Tokenizer, prompt, request::AnswerOptions, stream::Source};
use deepseek_ocr_core::{Error, Result, Views, VisionTokens};
use deepseek_ocr_decoder::{GenerateOptions, Prompt};

/// A request as far as no weights are needed.
#[derive(Debug)]
pub(crate) struct Order {
    views: Vec<Views>,
    sizes: Vec<(u32, u32)>,
    asked: Asked,
}

/// What is asked about pages.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Ids before the first page and after each.
    parts: Vec<Vec<u32>>,
    options: GenerateOptions,
    source: Source,
}

/// A request that is ready to decode.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) prompt: Prompt,
    pub(crate) options: GenerateOptions,
    pub(crate) source: Source,
}

impl DeepseekOcr {
    /// Checks a request and cuts its pages into views.
    pub(crate) fn order(&self, request: Request) -> Result<Order> {
        let Request { pages, mode, max_tiles, answer } = request;
        let grids = pages.iter().map(|page| mode.tile_grid(page.width(), page.height(), max_tiles));
        let vision_tokens = grids.map(|grid| mode.vision_tokens_of(grid)).sum();
        let sizes: Vec<_> = pages.iter().map(|page| (page.width(), page.height())).collect();
        let source = Source { page_size: sizes.first().copied(), vision_tokens, prompt_tokens: 0 };
        let asked = Asked::new(self, &answer, pages.len(), source)?;
        let views = |page| deepseek_ocr_preprocess::views_with(page, mode, max_tiles);
        let views = self.threads().run(|| pages.iter().map(views).collect());
        Ok(Order { views, sizes, asked })
    }

    /// Encodes the pages of several requests together.
    pub(crate) fn prepare(&self, orders: Vec<Order>) -> Vec<Prepared> {
        let (mut views, mut rest) = (Vec::new(), Vec::new());
        for Order { views: own, sizes, asked } in orders {
            views.extend(own);
            rest.push((sizes, asked));
        }
        let mut encoded = self.threads().run(|| self.encoder().encode_batch(&views)).into_iter();
        let prepare = |(sizes, asked): (Vec<(u32, u32)>, Asked)| {
            // The pages come second: what they are zipped with ends first and takes none too many.
            let pages = sizes.iter().zip(encoded.by_ref());
            let pages = pages.map(|(&(width, height), page)| page.with_page_size(width, height));
            asked.about(self.tokenizer(), pages.collect())
        };
        rest.into_iter().map(prepare).collect()
    }
}

impl Order {
    pub(crate) fn source(&self) -> Source {
        self.asked.source
    }

    /// Positions that prompt and answer take at most.
    pub(crate) fn most_positions(&self, context: usize) -> usize {
        let Asked { options, source, .. } = &self.asked;
        source.prompt_tokens.saturating_add(options.max_new_tokens).min(context)
    }
}

impl Asked {
    /// A question about `pages` pages; `source` lacks the tokens of the prompt.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::PromptTooLong`], [`Error::Tokenizer`].
    pub(crate) fn new(model: &DeepseekOcr, answer: &AnswerOptions, pages: usize, source: Source) -> Result<Self> {
        let options = prompt::options(answer, model.tokenizer());
        options.validate()?;
        let parts = model.tokenizer().prompt_parts(&answer.task, pages)?;
        let prompt_tokens = source.vision_tokens + parts.iter().map(Vec::len).sum::<usize>();
        let context = model.decoder().config().context;
        if prompt_tokens >= context {
            return Err(Error::PromptTooLong { tokens: prompt_tokens, context });
        }
        Ok(Self { parts, options, source: Source { prompt_tokens, ..source } })
    }

    /// The question with its pages.
    pub(crate) fn about(self, tokenizer: &Tokenizer, pages: Vec<VisionTokens>) -> Prepared {
        let Self { parts, options, source } = self;
        Prepared { prompt: tokenizer.prompt_around(parts, pages), options, source }
    }
}
