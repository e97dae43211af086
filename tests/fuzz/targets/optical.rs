//! Stored vision tokens: what is read is written and read again as it was.
#![no_main]

use deepseek_ocr::{Device, OpticalText, TokenFormat};
use deepseek_ocr_fuzz::safetensors_with_metadata;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let device = Device::flex();
    let file = safetensors_with_metadata(input, "deepseek-ocr-optical-text");
    let Ok(read) = OpticalText::from_bytes(&file, &device) else { return };
    let mut end = 0;
    for page in read.pages() {
        assert!(page.range.start == end && page.range.end >= end, "{:?} after byte {end}", page.range);
        end = page.range.end;
        assert!(!page.vision.is_empty());
    }
    assert!(read.ratio().is_finite());
    // Once they were rounded to bf16, vision tokens do not change any more.
    let first = read.to_bytes(TokenFormat::Bf16).expect("it was read");
    let again = OpticalText::from_bytes(&first, &device).expect("it was written here");
    assert!(again.to_bytes(TokenFormat::Bf16).expect("it was read") == first);
    assert_eq!((again.mode(), again.text_tokens(), again.missing()), (read.mode(), read.text_tokens(), read.missing()));
    assert_eq!(again.pages().len(), read.pages().len());
    for (page, before) in again.pages().iter().zip(read.pages()) {
        assert_eq!((&page.range, page.text_tokens, page.digest), (&before.range, before.text_tokens, before.digest));
        assert_eq!(page.vision.page_size(), before.vision.page_size());
        assert_eq!((page.vision.len(), page.vision.width()), (before.vision.len(), before.vision.width()));
    }
    let blocks = read.to_bytes(TokenFormat::Q8).expect("it was read");
    assert!(OpticalText::from_bytes(&blocks, &device).is_ok(), "in blocks of 8 bits it is not read");
});
