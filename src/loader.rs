//! From a model folder to a model on a device.

use crate::{DeepseekOcr, Tokenizer, config::ModelConfig, threads::Threads};
use burn::tensor::Device;
use deepseek_ocr_core::{Checkpoint, Error, Result, Weights, ops::Precision};
use deepseek_ocr_decoder::Decoder;
use deepseek_ocr_encoder::Encoder;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Loads a model folder: `config.json`, `tokenizer.json`, the weights, and, to check that they say the same, `processor_config.json` and
/// `generation_config.json` if they are there.
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
    weights: Weights,
    precision: Precision,
    threads: Option<usize>,
}

impl Loader {
    pub(crate) fn new(folder: &Path) -> Self {
        let (weights, precision) = (Weights::Stored, Precision::Exact);
        Self { folder: folder.to_owned(), device: None, weights, precision, threads: None }
    }

    /// Sets the device; without this it is Burn's default, the first of the backends that are compiled in.
    pub fn with_device(mut self, device: &Device) -> Self {
        self.device = Some(device.clone());
        self
    }

    /// Sets the format of the decoder's matrices: quantised here if the checkpoint has floats. Without this they stay as the
    /// checkpoint has them.
    ///
    /// `examples/quantize.rs` converts a checkpoint once, so that loading it takes no time and its pages are shared among processes.
    pub fn with_weights(mut self, weights: Weights) -> Self {
        self.weights = weights;
        self
    }

    /// Sets what products over many rows may round: the encoder's, and the decoder's over a prompt. The default is
    /// [`Precision::Exact`]; [`Precision::Bf16`] is up to twice as fast on CPUs that multiply pairs of bf16.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Gives the model as many threads of its own, which compute for all its clones. Without this it computes on the
    /// [rayon](https://docs.rs/rayon) pool that its caller is in, as a rule the global one with a thread for each core.
    ///
    /// Requests from several threads share the pool: they take turns operation by operation, and never do more threads
    /// compute than the pool has. Fewer threads than cores leave the rest to a service's other work. On a GPU this
    /// concerns only the preparation of pages.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = Some(threads);
        self
    }

    /// Writes a model folder whose decoder has its matrices in the format that was set: it loads without work, its pages are shared
    /// among processes, and nothing more of the original is needed. One matrix at a time is in memory.
    ///
    /// ```no_run
    /// use deepseek_ocr::{DeepseekOcr, Weights};
    ///
    /// DeepseekOcr::loader("DeepSeek-OCR").with_weights(Weights::Q4).convert("DeepSeek-OCR-q4")?;
    /// # Ok::<(), deepseek_ocr::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load); [`Error::Write`], also if a file of the checkpoint is there already.
    pub fn convert(self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        let config = self.config()?;
        let checkpoint = Checkpoint::open(&self.folder)?;
        std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
        let decoder = config.decoder.init(&self.device.unwrap_or_default()).with_weights(self.weights);
        checkpoint.convert(&decoder, &Decoder::NAMES, folder)?;
        // Last, so that a folder that was left half-way is none.
        for (from, name) in side_files(&self.folder)? {
            let to = folder.join(name);
            std::fs::copy(from, &to).map_err(Error::write(&to))?;
        }
        Ok(())
    }

    /// Loads the model. On the CPU the weights are read where the files are mapped, not copied.
    ///
    /// # Errors
    /// [`Error::Read`] or [`Error::Json`] naming the file; [`Error::ModelFolder`] if the folder holds something else;
    /// [`Error::Config`] naming a field that asks for what is not supported; [`Error::Tokenizer`]; [`Error::Safetensors`]; an `Error::Tensor..` naming the tensor;
    /// [`Error::WeightFormat`] if the checkpoint was converted to another format than is asked for; [`Error::InvalidRequest`] for
    /// no threads and [`Error::Threads`] for more than the system gives.
    pub fn load(self) -> Result<DeepseekOcr> {
        let threads = self.threads.map_or(Ok(Threads::default()), Threads::start)?;
        let config = self.config()?;
        let device = self.device.unwrap_or_default();
        let tokenizer = Tokenizer::open(self.folder.join("tokenizer.json"))?;
        let checkpoint = Checkpoint::open(&self.folder)?;
        assemble(&config, tokenizer, &checkpoint, Place { weights: self.weights, device, threads })
    }

    /// The stages that `config.json` describes, with random weights: where training begins.
    ///
    /// # Errors
    /// As [`load`](Self::load), for the configuration.
    pub fn untrained(self) -> Result<(Encoder, Decoder)> {
        let (config, device) = (self.config()?, self.device.clone().unwrap_or_default());
        Ok((config.encoder.init(&device), config.decoder.init(&device).with_precision(self.precision)))
    }

    fn config(&self) -> Result<ModelConfig> {
        let mut config = match ModelConfig::read(&self.folder) {
            Err(error @ Error::Read { .. }) => Err(Checkpoint::explain(&self.folder).unwrap_or(error)),
            read => read,
        }?;
        config.encoder = config.encoder.with_precision(self.precision);
        Ok(config)
    }
}

/// The model folder's JSON files and their names, but for the weights' index and hidden files.
fn side_files(folder: &Path) -> Result<Vec<(PathBuf, OsString)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let entry = entry.map_err(Error::read(folder))?;
        let (path, name) = (entry.path(), entry.file_name());
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let text = name.to_string_lossy();
        if is_json && path.is_file() && !text.starts_with('.') && !text.ends_with(".safetensors.index.json") {
            files.push((path, name));
        }
    }
    Ok(files)
}

/// Where a model computes, and with what.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) device: Device,
    pub(crate) weights: Weights,
    pub(crate) threads: Threads,
}

/// Composes the stages from parts that are in memory.
pub(crate) fn assemble(
    config: &ModelConfig,
    tokenizer: Tokenizer,
    checkpoint: &Checkpoint,
    place: Place,
) -> Result<DeepseekOcr> {
    let Place { device, weights, threads } = place;
    tokenizer.check_fits(config.decoder.vocab)?;
    config.check_tokens(&tokenizer)?;
    let stages = threads.run(|| fill(config, checkpoint, weights, &device))?;
    Ok(DeepseekOcr::new(stages, tokenizer, device, threads))
}

fn fill(
    config: &ModelConfig,
    checkpoint: &Checkpoint,
    weights: Weights,
    device: &Device,
) -> Result<(Encoder, Decoder)> {
    let mut loading = checkpoint.load_on(device);
    let encoder = loading.fill(config.encoder.init(device), &Encoder::NAMES)?;
    let weights = if weights == Weights::Stored { checkpoint.weights() } else { weights };
    // The configuration file says nothing of precision: what was set for the encoder holds for both.
    let decoder = config.decoder.init(device).with_weights(weights).with_precision(config.encoder.precision);
    let decoder = loading.fill(decoder, &Decoder::NAMES)?.settled();
    loading.finish()?;
    tracing::debug!(tensors = checkpoint.names().count(), %weights, ?device, "model loaded");
    Ok((encoder, decoder))
}
