//! The embedded checkpoint: a model of the same architecture, small enough to ship, that really reads.

use crate::{
    DeepseekOcr,
    config::ModelConfig,
    loader::{self, Place},
};
use burn::tensor::Device;
use deepseek_ocr_core::{Checkpoint, Error, Result};

const CONFIG: &[u8] = include_bytes!("../assets/mini/config.json");
const TOKENIZER: &[u8] = include_bytes!("../assets/mini/tokenizer.json");
const WEIGHTS: &[u8] = include_bytes!("../assets/mini/model.safetensors");

impl DeepseekOcr {
    /// The embedded mini checkpoint (5.1 M parameters): no download, no files.
    ///
    /// It reads pages of 512 x 512 in [`Mode::Tiny`](crate::Mode::Tiny): English in DejaVu Sans Mono at 20 to 22 px, 16
    /// lines of 40 columns, placed as `assets/mini/README.md` says. It answers any task with the plain text.
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
        let config = serde_json::from_slice(CONFIG)
            .map_err(|source| Error::Json { path: "assets/mini/config.json".into(), source: source.into() })?;
        let checkpoint = Checkpoint::from_static("assets/mini/model.safetensors", WEIGHTS)?;
        let place = Place { device: device.clone(), ..Place::default() };
        loader::assemble(&ModelConfig::parse(&config)?, TOKENIZER, &checkpoint, place)
    }
}
