//! An answer with regions' tags: boxes lie on the page, texts are parts of the answer, Markdown has no tag left.
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
        assert!(text.contains(&region.label) && text.contains(&region.text));
        for b in &region.boxes {
            assert!(b.x1 <= b.x2 && b.x2 <= size.0 && b.y1 <= b.y2 && b.y2 <= size.1, "{b:?} on {size:?}");
        }
    }
    let markdown = transcript.markdown();
    let tagged = Transcript::parse(markdown.as_str(), size).regions();
    assert!(tagged.is_empty(), "{markdown:?} still holds {tagged:?}");
});
