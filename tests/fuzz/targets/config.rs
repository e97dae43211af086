//! `config.json` of a model folder without weights: an error that says what is wrong, soon, and in little memory.
#![no_main]

use deepseek_ocr::{DeepseekOcr, Device, Error};
use deepseek_ocr_fuzz::{folder, safetensors, write};
use libfuzzer_sys::fuzz_target;
use std::sync::Once;

const TOKENIZER: &[u8] = include_bytes!("../../../assets/mini/tokenizer.json");

fuzz_target!(|config: &[u8]| {
    static FILES: Once = Once::new();
    FILES.call_once(|| {
        write("tokenizer.json", TOKENIZER);
        write("model.safetensors", &safetensors(b"{}"));
    });
    write("config.json", config);
    let error = DeepseekOcr::from_dir(folder(), &Device::default()).expect_err("there are no weights");
    let expected = matches!(
        error,
        Error::Json { .. } | Error::Config { .. } | Error::Tokenizer { .. } | Error::TensorMissing { .. }
    );
    assert!(expected, "{error:?}");
});
