//! From a model folder to a model on a device.

use crate::{
    DeepseekOcr, Tokenizer,
    config::{self, ModelConfig},
};
use burn::tensor::Device;
use deepseek_ocr_core::{Checkpoint, Error, Result};
use deepseek_ocr_decoder::Decoder;
use deepseek_ocr_encoder::Encoder;
use std::path::{Path, PathBuf};

/// Loads a model folder: `config.json`, `tokenizer.json`, the weights, and `processor_config.json` if it is there.
///
/// ```no_run
/// use deepseek_ocr::{DeepseekOcr, Device};
///
/// let ocr = DeepseekOcr::loader("DeepSeek-OCR").with_device(&Device::flex()).load()?;
/// # Ok::<(), deepseek_ocr::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a loader does nothing until `load` is called"]
pub struct Loader {
    folder: PathBuf,
    device: Option<Device>,
}

impl Loader {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), device: None }
    }

    /// Sets the device; without this it is Burn's default, the first of the backends that are compiled in.
    pub fn with_device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Loads the model. On the CPU the weights are read where the files are mapped, not copied.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Json`] naming the file; [`Error::Config`] naming a field that asks for what is not
    /// supported; [`Error::Tokenizer`]; [`Error::Safetensors`]; an `Error::Tensor..` naming the tensor.
    pub fn load(self) -> Result<DeepseekOcr> {
        let device = self.device.unwrap_or_default();
        let config = ModelConfig::parse(&json(&self.folder.join("config.json"))?)?;
        let processor = self.folder.join("processor_config.json");
        if processor.is_file() {
            config::check_processor(&json(&processor)?)?;
        }
        let path = self.folder.join("tokenizer.json");
        let tokenizer = std::fs::read(&path).map_err(Error::read(&path))?;
        let checkpoint = Checkpoint::open(&self.folder)?;
        assemble(&config, &tokenizer, &checkpoint, &device)
    }
}

/// Composes the stages from parts that are in memory.
pub(crate) fn assemble(
    config: &ModelConfig,
    tokenizer: &[u8],
    checkpoint: &Checkpoint,
    device: &Device,
) -> Result<DeepseekOcr> {
    let tokenizer = Tokenizer::from_bytes(tokenizer)?;
    tokenizer.check_fits(config.decoder.vocab)?;
    let mut loading = checkpoint.load_on(device);
    let encoder = loading.fill(config.encoder.init(device), &Encoder::NAMES)?;
    let decoder = loading.fill(config.decoder.init(device), &Decoder::NAMES)?;
    loading.finish()?;
    tracing::debug!(tensors = checkpoint.names().count(), ?device, "model loaded");
    Ok(DeepseekOcr::new(encoder, decoder, tokenizer, device.clone()))
}

fn json(path: &Path) -> Result<serde_json::Value> {
    let text = std::fs::read(path).map_err(Error::read(path))?;
    serde_json::from_slice(&text).map_err(|source| Error::Json { path: path.to_owned(), source: source.into() })
}
