//! A stored memory: rounds within their budget, which fade, go, and are saved as they are.
#![no_main]

use deepseek_ocr::{DeepseekOcr, Device, OpticalMemory, Pin, Round, Style};
use deepseek_ocr_fuzz::{folder, safetensors_with_metadata, write};
use libfuzzer_sys::fuzz_target;
use std::{path::Path, sync::LazyLock};

static MODEL: LazyLock<DeepseekOcr> = LazyLock::new(|| DeepseekOcr::mini(&Device::flex()).expect("it is embedded"));

fuzz_target!(|input: &[u8]| {
    let file = safetensors_with_metadata(input, "deepseek-ocr-optical-memory");
    let path = write("memory", &file);
    let Ok(mut memory) = open(&path) else { return };
    check(&memory);
    saved_as_it_is(&memory);
    // What is pinned may be over the budget when time passes: then nothing changes.
    let before = rounds(&memory);
    match memory.fade() {
        Ok(()) => check(&memory),
        Err(_) => assert_eq!(rounds(&memory), before),
    }
    saved_as_it_is(&memory);
    let ids: Vec<_> = memory.rounds().map(|round| round.id).collect();
    for (index, id) in ids.into_iter().enumerate() {
        match index % 3 {
            0 => memory.forget(id).expect("it is there"),
            1 => drop(memory.pin(id, Pin::Hold)),
            _ => drop(memory.pin(id, Pin::Release)),
        }
        check(&memory);
    }
    if memory.set_budget(memory.budget() / 2).is_ok() {
        check(&memory);
    }
    saved_as_it_is(&memory);
});

fn open(path: &Path) -> Result<OpticalMemory, deepseek_ocr::Error> {
    OpticalMemory::open(path, MODEL.clone(), Style::mini())
}

fn rounds(memory: &OpticalMemory) -> Vec<Round> {
    memory.rounds().collect()
}

fn check(memory: &OpticalMemory) {
    let rounds = rounds(memory);
    assert!(memory.vision_tokens() <= memory.budget(), "{memory:?}");
    assert_eq!(rounds.iter().map(|round| round.vision_tokens).sum::<usize>(), memory.vision_tokens());
    assert!(rounds.is_sorted_by(|a, b| a.id < b.id && a.age >= b.age), "{rounds:?}");
}

fn saved_as_it_is(memory: &OpticalMemory) {
    let path = folder().join("saved");
    memory.save(&path).expect("the folder takes files");
    let again = open(&path).expect("it was written here");
    assert_eq!((rounds(&again), again.budget()), (rounds(memory), memory.budget()));
}
