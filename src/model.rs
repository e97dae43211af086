//! The model: start reading here.

use crate::{
    Loader, Request, Task, Tokenizer, Transcript, TranscriptStream, engine,
    order::{Asked, Prepared},
    request::AnswerOptions,
    stream::Source,
    threads::Threads,
};
use burn::tensor::Device;
use deepseek_ocr_core::{Mode, Result, VisionTokens};
use deepseek_ocr_decoder::{Decoder, Generation};
use deepseek_ocr_encoder::Encoder;
use deepseek_ocr_preprocess::Page;
use std::{path::Path, sync::Arc};

/// Rows that [`DeepseekOcr::generate_batch`] decodes together.
const BATCH_ROWS: usize = 16;

/// DeepSeek-OCR on one device.
///
/// A handle: cloning it is cheap, and clones may be used from many threads at once.
#[derive(Debug, Clone)]
pub struct DeepseekOcr {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    encoder: Encoder,
    decoder: Decoder,
    tokenizer: Tokenizer,
    device: Device,
    threads: Threads,
}

impl DeepseekOcr {
    pub(crate) fn new(stages: (Encoder, Decoder), tokenizer: Tokenizer, device: Device, threads: Threads) -> Self {
        let (encoder, decoder) = stages;
        Self { inner: Arc::new(Inner { encoder, decoder, tokenizer, device, threads }) }
    }

    /// A model of stages that are there: with weights that were changed, made or come from elsewhere. It is where the decoder is.
    ///
    /// # Errors
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) if the tokenizer has ids that the decoder lacks.
    pub fn from_stages(encoder: Encoder, decoder: Decoder, tokenizer: Tokenizer) -> Result<Self> {
        tokenizer.check_fits(decoder.config().vocab)?;
        let device = decoder.device();
        Ok(Self::new((encoder, decoder), tokenizer, device, Threads::default()))
    }

    /// Loads a model folder as it is on the Hugging Face hub: `config.json`, `tokenizer.json` and safetensors.
    ///
    /// # Errors
    /// Names the file, field or tensor that is wrong; see [`Loader::load`].
    pub fn from_dir(folder: impl AsRef<Path>, device: &Device) -> Result<Self> {
        Self::loader(folder).with_device(device).load()
    }

    /// Downloads a model from the Hugging Face hub, or finds it in the cache, and loads it.
    ///
    /// The settings are those of the official client ([`Hub::from_env`](crate::Hub::from_env)); use [`Hub`](crate::Hub) for
    /// another revision, cache or endpoint, and to follow the download.
    ///
    /// ```no_run
    /// use deepseek_ocr::{DeepseekOcr, Device};
    ///
    /// let ocr = DeepseekOcr::from_pretrained("deepseek-ai/DeepSeek-OCR", &Device::flex())?;
    /// # Ok::<(), deepseek_ocr::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Hub`](crate::Error::Hub) naming the file that cannot be had; else as [`from_dir`](Self::from_dir).
    #[cfg(feature = "hub")]
    pub fn from_pretrained(repo: &str, device: &Device) -> Result<Self> {
        let folder = crate::Hub::from_env()?.fetch(repo, crate::Hub::MAIN, &mut |_| {})?;
        Self::from_dir(folder, device)
    }

    /// A loader for a model folder, to set more than [`from_dir`](Self::from_dir) does.
    pub fn loader(folder: impl AsRef<Path>) -> Loader {
        Loader::new(folder.as_ref())
    }

    /// Reads a page, or whatever else a [`Request`] asks, to the end.
    ///
    /// ```no_run
    /// # use deepseek_ocr::{DeepseekOcr, Device, Page};
    /// # let ocr = DeepseekOcr::from_dir("DeepSeek-OCR", &Device::flex())?;
    /// let page = Page::open("invoice.png")?;
    /// println!("{}", ocr.generate(&page)?.markdown());
    /// # Ok::<(), deepseek_ocr::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidRequest`](crate::Error::InvalidRequest), [`Error::PromptTooLong`](crate::Error::PromptTooLong), or a
    /// failure of the device.
    pub fn generate(&self, request: impl Into<Request>) -> Result<Transcript> {
        self.stream(request)?.finish()
    }

    /// Like [`generate`](Self::generate), piece by piece. The page is encoded before this returns.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn stream(&self, request: impl Into<Request>) -> Result<TranscriptStream> {
        let order = self.order(request.into())?;
        let prepared = self.prepare(vec![order]).pop().expect("one order in, one out");
        self.start(prepared)
    }

    /// Reads many pages, decoding rows together; each result is what [`generate`](Self::generate) gives for its request.
    ///
    /// A request that fails does not stop the others. Rows join as others end, and requests are taken from the iterator when they
    /// can, so that it may open pages as it goes. An [`Engine`](crate::Engine) does the same for requests of many threads.
    pub fn generate_batch(&self, requests: impl IntoIterator<Item = Request>) -> Vec<Result<Transcript>> {
        engine::read_all(self, requests.into_iter(), BATCH_ROWS)
    }

    /// Compresses a page into vision tokens.
    ///
    /// Failures of the device show when the tokens are read or decoded.
    pub fn encode(&self, page: &Page, mode: Mode) -> VisionTokens {
        self.encode_views(page, mode, Mode::DEFAULT_MAX_TILES)
    }

    /// Answers `task` from vision tokens, which may have been stored in between.
    ///
    /// # Errors
    /// [`Error::VisionTokensWidth`](crate::Error::VisionTokensWidth) if they are another model's; else as
    /// [`generate`](Self::generate).
    pub fn decode(&self, vision: &VisionTokens, task: &Task) -> Result<Transcript> {
        let answer = AnswerOptions { task: task.clone(), ..AnswerOptions::default() };
        self.start(self.prepare_answer(&answer, vision)?)?.finish()
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The vision stages, for those who want their tensors. They compute on the caller's threads.
    pub fn encoder(&self) -> &Encoder {
        &self.inner.encoder
    }

    /// The language stage, for those who want its tensors. It computes on the caller's threads.
    pub fn decoder(&self) -> &Decoder {
        &self.inner.decoder
    }

    /// Where the model is.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    pub(crate) fn threads(&self) -> &Threads {
        &self.inner.threads
    }

    fn encode_views(&self, page: &Page, mode: Mode, max_tiles: u32) -> VisionTokens {
        let encode = || self.encoder().encode(&deepseek_ocr_preprocess::views_with(page, mode, max_tiles));
        self.threads().run(encode).with_page_size(page.width(), page.height())
    }

    fn start(&self, prepared: Prepared) -> Result<TranscriptStream> {
        let Prepared { prompt, options, source } = prepared;
        let generation = Generation::new(self.decoder(), vec![(prompt, options)])?;
        Ok(TranscriptStream::new(self.clone(), generation, source))
    }

    /// Answers from encoded pages, rows together.
    #[cfg(feature = "typeset")]
    pub(crate) fn decode_together(&self, answers: Vec<(AnswerOptions, VisionTokens)>) -> Result<Vec<Transcript>> {
        let mut transcripts = Vec::with_capacity(answers.len());
        for answers in answers.chunks(BATCH_ROWS) {
            let (mut rows, mut sources) = (Vec::new(), Vec::new());
            for (answer, vision) in answers {
                let Prepared { prompt, options, source } = self.prepare_answer(answer, vision)?;
                rows.push((prompt, options));
                sources.push(source);
            }
            let mut generation = Generation::new(self.decoder(), rows)?;
            while !generation.is_finished() {
                self.threads().run(|| generation.advance(self.decoder()))?;
            }
            for (row, source) in sources.into_iter().enumerate() {
                let text = self.tokenizer().decode(generation.ids(row))?;
                transcripts.push(Transcript::new(generation.leave(row), text, source));
            }
        }
        Ok(transcripts)
    }

    /// A question about a page that is encoded.
    fn prepare_answer(&self, answer: &AnswerOptions, vision: &VisionTokens) -> Result<Prepared> {
        let source = Source { page_size: vision.page_size(), vision_tokens: vision.len(), prompt_tokens: 0 };
        Ok(Asked::new(self, answer, 1, source)?.about(self.tokenizer(), vec![vision.clone()]))
    }
}
