//! A file of weights: tensors that lie in the file, or an error.
#![no_main]

use deepseek_ocr_core::Checkpoint;
use deepseek_ocr_fuzz::{folder, safetensors, write};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let file = safetensors(input);
    write("model.safetensors", &file);
    let Ok(checkpoint) = Checkpoint::open(folder()) else { return };
    let names: Vec<&str> = checkpoint.names().collect();
    assert!(names.is_sorted_by(|a, b| a < b));
    let mut bytes = 0;
    for name in &names {
        let shape = checkpoint.shape(name).expect("it has a name").to_vec();
        let longer = [shape.as_slice(), &[1]].concat();
        assert!(checkpoint.data(name, &longer).is_err(), "{name} has another shape");
        let Ok(data) = checkpoint.data(name, &shape) else { continue };
        assert_eq!(data.bytes().len(), shape.iter().product::<usize>() * data.dtype().size());
        bytes += data.bytes().len();
    }
    assert!(bytes <= file.len(), "tensors are where others are");
    assert!(checkpoint.data("no such tensor", &[]).is_err() || names.contains(&"no such tensor"));
    let _ = checkpoint.weights();
});
