//! Grounding tags against the reference's parsing and clean-up.

use deepseek_ocr::Transcript;
use proptest::prelude::*;
use serde_json::Value;

const CASES: &str = include_str!("../data/postprocess.json");

#[test]
fn markdown_and_regions_equal_the_reference() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        let transcript = Transcript::parse(case["raw"].as_str().unwrap(), (1500, 500));
        // The vectors are made of untrimmed text; the released code, and we, trim first.
        let trimmed = |text: &str| text.trim().to_owned();
        assert_eq!(trimmed(&transcript.markdown()), trimmed(case["result_mmd"].as_str().unwrap()));
        let regions = transcript.regions();
        let parsed: Vec<_> = case["parsed"].as_array().unwrap().iter().filter(|tag| !tag.is_null()).collect();
        assert_eq!(regions.len(), parsed.len(), "{case}");
        for (region, expected) in regions.iter().zip(parsed) {
            assert_eq!(region.label, expected["label"].as_str().unwrap());
            let boxes: Vec<_> = region.boxes.iter().map(|b| vec![b.x1, b.y1, b.x2, b.y2]).collect();
            assert_eq!(serde_json::to_value(boxes).unwrap(), expected["px_1500x500"]);
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(<\\|ref\\|>|<｜/ref｜>|<\\|/ref\\|>|<\\|det\\|>|<\\|/det\\|>|<PAGE>|\\[|\\]|\\[\\[[0-9]{1,4}, 2, 3, 4\\]|[0-9]|,|-|image|\n|```|é|\\PC){0,40}") {
        let transcript = Transcript::parse(text, (1, 3));
        transcript.markdown();
        for region in transcript.regions() {
            prop_assert!(!region.boxes.is_empty());
            for b in region.boxes {
                prop_assert!(b.x1 < b.x2 && b.x2 <= 1 && b.y1 < b.y2 && b.y2 <= 3, "{:?}", b);
            }
        }
    }
}
