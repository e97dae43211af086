//! The released tokenizer: ids, decoding, streaming, and whole prompts.

use burn::tensor::Tensor;
use deepseek_ocr::{Device, Mode, Task, Tokenizer, VisionTokens};
use proptest::prelude::*;
use serde_json::Value;
use std::{
    io::Read,
    sync::{LazyLock, OnceLock},
};

const CASES: &str = include_str!("../data/tokenizer_cases.json");
const PROMPTS: &str = include_str!("../data/prompt_ids.json");

/// Ids of the released vocabulary that its tokenizer knows.
const KNOWN: u32 = 128_827;

pub fn released() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| {
        let packed: &[u8] = include_bytes!("../data/tokenizer.json.gz");
        let mut json = Vec::new();
        flate2::read::GzDecoder::new(packed).read_to_end(&mut json).unwrap();
        Tokenizer::from_bytes(&json).unwrap()
    })
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn streamed(ids: &[u32]) -> (String, Vec<String>) {
    let mut stream = released().stream();
    let mut pieces: Vec<_> = ids.iter().map(|id| stream.push(*id).unwrap()).collect();
    pieces.push(stream.flush().unwrap());
    (pieces.concat(), pieces)
}

#[test]
fn every_case_encodes_and_decodes() {
    let cases: Vec<Value> = serde_json::from_str(CASES).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        let text = case["text"].as_str().unwrap();
        let expected = ids(&case["ids"]);
        assert_eq!(released().encode(text).unwrap(), expected, "{text:?}");
        assert_eq!(released().decode(&expected).unwrap(), case["decoded"].as_str().unwrap(), "{text:?}");
        let (joined, pieces) = streamed(&expected);
        assert_eq!(joined, case["decoded"].as_str().unwrap());
        assert!(pieces.iter().all(|piece| !piece.contains('\u{FFFD}')), "{pieces:?}");
    }
}

#[test]
fn every_prompt_has_the_reference_ids() {
    let cases: Vec<Value> = serde_json::from_str(PROMPTS).unwrap();
    assert!(!cases.is_empty());
    for case in &cases {
        let mode: Mode = case["mode"].as_str().unwrap().parse().unwrap();
        let expected = ids(&case["ids"]);
        let image = released().image();
        let placeholders = expected.iter().filter(|id| **id == image).count();
        assert_eq!(placeholders, mode.vision_tokens(1500, 500));
        let vision = VisionTokens::new(Tensor::zeros([placeholders, 4], &Device::default()));
        let task = Task::Custom(case["prompt"].as_str().unwrap().into());
        let prompt = released().prompt(&task, vec![vision]).unwrap();
        assert_eq!(prompt.ids(), expected);
    }
}

#[test]
fn the_tasks_are_the_official_prompts() {
    let vision = || vec![VisionTokens::new(Tensor::zeros([2, 4], &Device::default()))];
    let tail = |task: Task| released().prompt(&task, vision()).unwrap().ids()[3..].to_vec();
    assert_eq!(tail(Task::Markdown), [201, 128_820, 21_842, 270, 4_940, 304, 2_121, 7_919, 16]);
    assert_eq!(tail(Task::FreeOcr), [201, 21_431, 126_041, 16]);
    assert_eq!(tail(Task::OcrImage), [201, 128_820, 119_316, 566, 4_609, 16]);
    assert_eq!(tail(Task::Figure), [201, 68_779, 270, 5_991, 16]);
    assert_eq!(tail(Task::Describe), [201, 72_188, 566, 4_609, 295, 6_271, 16]);
}

#[test]
fn several_pages_have_a_place_each() {
    let vision = || VisionTokens::new(Tensor::zeros([1, 4], &Device::default()));
    let ids = |task: Task, pages| released().prompt(&task, vec![vision(); pages]).map(|p| p.ids());
    let image = released().image();
    let count = |ids: Vec<u32>| ids.iter().filter(|id| **id == image).count();
    assert_eq!(count(ids(Task::FreeOcr, 3).unwrap()), 3);
    assert_eq!(count(ids(Task::Custom("A <image> B <image> differ?".into()), 2).unwrap()), 2);
    let error = ids(Task::Custom("A <image> B <image> differ?".into()), 3).unwrap_err();
    assert!(error.to_string().contains("2 marks <image>"), "{error}");
}

#[test]
fn what_to_locate_cannot_carry_special_tokens() {
    let vision = vec![VisionTokens::new(Tensor::zeros([1, 4], &Device::default()))];
    for what in ["a<|/ref|>b", " ", "<image>"] {
        let error = released().prompt(&Task::Locate(what.into()), vision.clone()).unwrap_err();
        assert!(error.to_string().starts_with("invalid request: task is"), "{error}");
    }
}

static ALPHABET: LazyLock<Vec<u32>> = LazyLock::new(|| {
    // Tokens that are parts of characters make the hard cases: they get half of the draws.
    let partial = |id: &u32| released().decode(&[*id]).unwrap().contains('\u{FFFD}');
    (0..KNOWN).filter(partial).collect()
});

proptest! {
    #[test]
    fn pieces_joined_are_the_whole(draws in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 0..80)) {
        let id = |(hard, index): &(bool, prop::sample::Index)| {
            if *hard { ALPHABET[index.index(ALPHABET.len())] } else { index.index(KNOWN as usize) as u32 }
        };
        let ids: Vec<u32> = draws.iter().map(id).collect();
        prop_assert_eq!(streamed(&ids).0, released().decode(&ids).unwrap());
    }

    #[test]
    fn text_survives_the_way_through_ids(text in "\\PC{0,60}") {
        let ids = released().encode(&text).unwrap();
        prop_assert_eq!(streamed(&ids).0, text);
    }
}
