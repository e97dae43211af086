//! The embedded checkpoint: a model of the same architecture, small enough to ship, that really reads.

use crate::{
    DeepseekOcr, Tokenizer,
    config::ModelConfig,
    loader::{self, Place},
};
use burn::tensor::Device;
use deepseek_ocr_core::{Checkpoint, Result, json};

const CONFIG: &[u8] = include_bytes!("../assets/mini/config.json");
const TOKENIZER: &[u8] = include_bytes!("../assets/mini/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../assets/mini/model.safetensors");

impl DeepseekOcr {
    /// The embedded mini checkpoint (7.6 M parameters, matrices in 8 bits, the second tower's in 4): no download, no files.
    ///
    /// It reads English in `Style::mini` on pages of [`Mode::Tiny`](crate::Mode::Tiny), up to 3200 characters in 64
    /// vision tokens, asked for [`Task::FreeOcr`](crate::Task::FreeOcr). `assets/mini/README.md` says how well and what it was trained on;
    /// other prompts, modes and layouts run and were not trained, and texts of less than about 200
    /// characters are read badly.
    ///
    /// ```
    /// use deepseek_ocr::{DeepseekOcr, Device};
    ///
    /// let ocr = DeepseekOcr::mini(&Device::default())?;
    /// # Ok::<(), deepseek_ocr::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the device.
    pub fn mini(device: &Device) -> Result<Self> {
        let config = json::parse("assets/mini/config.json", CONFIG)?;
        let checkpoint = Checkpoint::from_static("assets/mini/model.safetensors", WEIGHTS)?;
        let place = Place { device: device.clone(), ..Place::default() };
        loader::assemble(&ModelConfig::parse(&config)?, Tokenizer::from_bytes(TOKENIZER)?, &checkpoint, place)
    }
}
