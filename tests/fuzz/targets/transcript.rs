//! An answer with regions' tags: boxes can be cut out of the page, texts are parts of the answer, Markdown has no whole tag left.
#![no_main]

use deepseek_ocr::Transcript;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&[width, height], text)) = input.split_first_chunk() else { return };
    let text = String::from_utf8_lossy(text);
    let size = (u32::from(width) + 1, u32::from(height) * 1000 + 1);
    let transcript = Transcript::parse(text.as_ref(), size);
    assert_eq!(transcript.text(), text);
    for region in transcript.regions() {
        assert!(is_left_of(&region.label, &text) && is_left_of(&region.text, &text), "{region:?}");
        assert!(!region.boxes.is_empty(), "{region:?}");
        for b in &region.boxes {
            assert!(b.x1 < b.x2 && b.x2 <= size.0 && b.y1 < b.y2 && b.y2 <= size.1, "{b:?} of {size:?}");
        }
    }
    let markdown = transcript.markdown();
    if !["![](images/", "\\coloneqq", "\\eqqcolon", "image"].iter().any(|added| text.contains(added)) {
        assert!(is_left_of(&markdown, &text), "{markdown:?}");
    }
    for (start, _) in markdown.match_indices("<|ref|>") {
        let Some(length) = markdown[start..].find("<|/det|>") else { break };
        let tag = &markdown[start..start + length + "<|/det|>".len()];
        // Where tags stand within tags, taking one out can make another of what was around it.
        let stood_there = text.contains(tag) && !Transcript::parse(tag, size).regions().is_empty();
        assert!(!stood_there, "{tag:?} was left");
    }
});

/// Whether `part` is what is left when characters of `whole` are taken out.
fn is_left_of(part: &str, whole: &str) -> bool {
    let mut rest = whole.chars();
    part.chars().all(|c| rest.any(|other| other == c))
}
