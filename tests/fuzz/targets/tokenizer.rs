//! `tokenizer.json` up to the first NUL, and a text behind it: what streams is what is decoded, and ids fit the vocabulary.
#![no_main]

use deepseek_ocr::Tokenizer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|&byte| byte == 0).unwrap_or(input.len());
    let (json, text) = input.split_at(end);
    let Ok(tokenizer) = Tokenizer::from_bytes(json) else { return };
    let text = String::from_utf8_lossy(text.get(1..).unwrap_or_default());
    let (bos, eos, image) = (tokenizer.bos(), tokenizer.eos(), tokenizer.image());
    let Ok(ids) = tokenizer.encode(&text) else { return };
    assert!(tokenizer.encode(&text).is_ok_and(|again| again == ids), "other ids the second time");
    let ids = [ids.as_slice(), &[bos, image, eos, u32::MAX]].concat();
    let Ok(whole) = tokenizer.decode(&ids) else { return };
    let mut stream = tokenizer.stream();
    let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).expect("all of it is decoded")).collect();
    pieces.push(stream.flush().expect("all of it is decoded"));
    assert_eq!(pieces.concat(), whole, "{pieces:?}");
});
