//! DeepSeek-OCR on the [Burn](https://burn.dev) framework: a page image becomes a few hundred vision tokens, and these become text.
//!
//! ```no_run
//! use deepseek_ocr::{DeepseekOcr, Device, Mode, Page, Request};
//!
//! let ocr = DeepseekOcr::from_dir("DeepSeek-OCR", &Device::flex())?;
//! let page = Page::open("invoice.png")?;
//! println!("{}", ocr.generate(&page)?.markdown());
//! for piece in ocr.stream(Request::new(page).with_mode(Mode::Base))? {
//!     print!("{}", piece?);
//! }
//! # Ok::<(), deepseek_ocr::Error>(())
//! ```
//!
//! # Steps
//!
//! What happens between a page and its text, and where to read it:
//!
//! 1. [`Page`] decodes an image file and turns it upright (`deepseek-ocr-preprocess`).
//! 2. A [`Mode`] makes square [`Views`] of it: the page, and for [`Mode::Gundam`] tiles in full resolution.
//! 3. The [`Encoder`](encoder::Encoder) compresses each view: SAM with window attention, a convolutional compressor (16 patches to
//!    one token), CLIP, a projector (`deepseek-ocr-encoder`). The result is [`VisionTokens`].
//! 4. A [`Task`] becomes the prompt: text tokens around vision tokens.
//! 5. The [`Decoder`](decoder::Decoder), a mixture of experts, continues the prompt token by token (`deepseek-ocr-decoder`).
//! 6. A [`TranscriptStream`] turns tokens into text as they come; a [`Transcript`] gives text, Markdown, regions in pixels,
//!    token counts, and why it ended.
//!
//! [`DeepseekOcr::generate`], [`stream`](DeepseekOcr::stream) and [`generate_batch`](DeepseekOcr::generate_batch) go these steps; an [`Engine`]
//! goes them for many threads at once, with one batch of rows that requests join and leave.
//!
//! # Features
//!
//! `flex` (default) is the CPU; `wgpu`, `vulkan`, `metal`, `cuda` and `rocm` are GPUs; several may be on, and a [`Device`] chooses
//! at run time. `hub` (default) downloads models; `typeset` (default) sets text on pages ([`Page::typeset`]); `cjk` embeds a
//! font for Chinese, Japanese and Korean; `mini` embeds a small checkpoint that reads without any download.
//!
//! # Memory
//!
//! Operations allocate their results anew. The system's allocators give buffers above some size (32 MB in glibc) back at once and
//! clear them page by page when they are asked for the next; a program should set one that keeps them, as the examples and
//! benches here do:
//!
//! ```ignore
//! #[global_allocator]
//! static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
//! ```

mod config;
mod device;
mod engine;
#[cfg(feature = "hub")]
mod hub;
mod loader;
#[cfg(feature = "typeset")]
mod memory;
#[cfg(feature = "mini")]
mod mini;
mod model;
#[cfg(feature = "typeset")]
mod optical;
mod order;
mod prompt;
mod request;
mod stream;
mod task;
mod threads;
mod tokenizer;
mod transcript;
#[cfg(test)]
mod work;

pub use deepseek_ocr_decoder as decoder;
pub use deepseek_ocr_encoder as encoder;
pub use deepseek_ocr_preprocess as preprocess;

pub use burn::tensor::Device;
/// Registering the wgpu device of a program that has one: `Device::wgpu_options().setup(setup).init()`.
#[cfg(feature = "wgpu")]
pub use burn::tensor::wgpu;
pub use deepseek_ocr_core::{Error, ErrorKind, Mode, Result, TileGrid, Views, VisionTokens, Weights, ops::Precision};
pub use deepseek_ocr_decoder::{Finish, Sampling};
pub use deepseek_ocr_preprocess::Page;
#[cfg(feature = "typeset")]
pub use deepseek_ocr_preprocess::{
    Arrangement, Compression, Fitted, Font, Margins, Missing, Style, Typeset, TypesetPage, Typesetter,
};
pub use device::{DEVICES, device};
pub use engine::{Engine, EngineCanceller, EngineOptions, EngineStream, Load, WhenFull};
#[cfg(feature = "hub")]
pub use hub::{Hub, Progress};
pub use loader::Loader;
#[cfg(feature = "typeset")]
pub use memory::{Decay, OpticalMemory, Pin, Round, RoundId};
pub use model::DeepseekOcr;
#[cfg(feature = "typeset")]
pub use optical::{Decompressed, EncodedPages, OpticalPage, OpticalText, PageDigest, TokenFormat};
pub use request::{NoRepeat, Request};
pub use stream::TranscriptStream;
pub use task::Task;
pub use tokenizer::{TextStream, Tokenizer};
pub use transcript::{PixelBox, Region, Transcript, Usage};

/// The README's examples, compiled with the documentation's.
#[cfg(all(doctest, feature = "hub", feature = "typeset"))]
#[doc = include_str!("../README.md")]
struct Readme;
