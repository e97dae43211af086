//! `model.safetensors.index.json` beside two shards: all that it promises, from files beside it alone, or an error.
#![no_main]

use deepseek_ocr_core::Checkpoint;
use deepseek_ocr_fuzz::{folder, safetensors, write};
use libfuzzer_sys::fuzz_target;
use std::sync::Once;

const SHARDS: [(&str, &str); 2] = [("one.safetensors", "a"), ("two.safetensors", "b")];

fuzz_target!(|index: &[u8]| {
    static FILES: Once = Once::new();
    FILES.call_once(|| {
        for (file, tensor) in SHARDS {
            let header =
                format!("{{\"{tensor}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}\0\0\0\0\0");
            write(file, &safetensors(header.as_bytes()));
        }
    });
    write("model.safetensors.index.json", index);
    let Ok(checkpoint) = Checkpoint::open(folder()) else { return };
    let index = index.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(index);
    let index: serde_json::Value = serde_json::from_slice(index).expect("it was read");
    let promised = index["weight_map"].as_object().expect("it was read");
    for (tensor, file) in promised {
        assert!(checkpoint.names().any(|name| name == tensor), "{tensor} was promised");
        assert!(SHARDS.iter().any(|(shard, _)| file == shard), "{file} is no file of the folder");
    }
    assert!(checkpoint.names().all(|name| SHARDS.iter().any(|(_, tensor)| name == *tensor)));
});
