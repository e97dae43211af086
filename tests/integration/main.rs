//! The integration tests, one binary: each test binary links the whole tensor stack.
//!
//! `DEEPSEEK_OCR_DEVICE` names the device they run on; without it, the CPU. `DEEPSEEK_OCR_ISA` names the instruction set that the
//! CPU's kernels run on; without it, the best.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::print_stdout)]

mod batch;
mod engine;
mod first;
mod flow;
mod hostile;
#[cfg(feature = "hub")]
mod hub;
mod memory;
mod mini;
mod optical;
mod parity;
#[cfg(feature = "flex")]
mod paths;
mod quantized;
mod real_files;
mod threads;
mod tokenizer;
mod transcript;
mod typeset;
mod vectors_image;
mod vectors_ngram;
mod wrong_files;

/// The device under test.
pub fn device() -> deepseek_ocr::Device {
    #[cfg(feature = "flex")]
    paths::force();
    let name = std::env::var("DEEPSEEK_OCR_DEVICE").unwrap_or_else(|_| "flex".into());
    deepseek_ocr::device(&name).unwrap()
}
