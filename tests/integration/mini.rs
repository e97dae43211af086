//! The embedded checkpoint reads its held-out pages at least as well as its record says.

use deepseek_ocr::{DeepseekOcr, Device, Finish, Mode, NoRepeat, Page, Request, Task};
use serde_json::Value;
use std::path::Path;

const SAMPLES: &str = include_str!("../data/mini/samples.json");

/// What the checkpoint's README says of the pages in `tests/data/mini`, on average.
pub const RECORDED: f64 = 0.952;
/// How much less fails.
pub const DROP: f64 = 0.02;

pub fn pages() -> Vec<(Page, Value)> {
    pages_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mini"), SAMPLES)
}

/// The pages of a folder that `samples`, a JSON array, names.
pub fn pages_in(folder: &Path, samples: &str) -> Vec<(Page, Value)> {
    let samples: Vec<Value> = serde_json::from_str(samples).unwrap();
    let page = |sample: Value| (Page::open(folder.join(sample["file"].as_str().unwrap())).unwrap(), sample);
    samples.into_iter().map(page).collect()
}

pub fn request(page: &Page) -> Request {
    Request::new(page).with_mode(Mode::Tiny).with_task(Task::FreeOcr).with_no_repeat(NoRepeat::Off)
}

/// One minus edit distance over the longer length, in characters.
pub fn precision(text: &str, truth: &str) -> f64 {
    let longer = text.chars().count().max(truth.chars().count()).max(1);
    1.0 - strsim::levenshtein(text, truth) as f64 / longer as f64
}

#[test]
fn what_the_tests_expect_is_what_the_readme_states() {
    let readme = include_str!("../../assets/mini/README.md");
    let stated = format!("are read at {:.1} % on average", 100.0 * RECORDED);
    assert!(readme.contains(&stated), "it should state {stated}");
}

#[test]
fn held_out_pages_are_read() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let pages = pages();
    assert_eq!(pages.len(), 6);
    for (page, sample) in pages {
        let transcript = ocr.generate(request(&page)).unwrap();
        let truth = sample["truth"].as_str().unwrap();
        let reached = precision(transcript.text().trim_end(), truth);
        println!("{} precision {reached:.4} confidence {:.4}", sample["file"], transcript.confidence());
        // The record has four decimals.
        assert!(reached >= sample["precision"].as_f64().unwrap() - 5e-5, "{}: {}", sample["file"], transcript.text());
        assert_eq!(transcript.finish(), Finish::Stop);
        assert_eq!(transcript.usage().vision_tokens, 73);
        // It knows about how sure it may be.
        assert!((f64::from(transcript.confidence()) - reached).abs() < 0.1, "{}", transcript.confidence());
    }
}

#[test]
fn the_pieces_of_a_stream_are_the_transcript() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let (page, _) = pages().remove(1);
    let mut stream = ocr.stream(request(&page)).unwrap();
    let pieces: Vec<String> = stream.by_ref().map(Result::unwrap).collect();
    let transcript = stream.finish().unwrap();
    assert!(pieces.len() > 100);
    assert_eq!(pieces.concat(), transcript.text());
}

#[test]
fn a_cancelled_stream_keeps_what_it_wrote() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let (page, _) = pages().remove(0);
    let mut stream = ocr.stream(request(&page)).unwrap();
    let written: String = stream.by_ref().take(20).map(Result::unwrap).collect();
    stream.cancel();
    let transcript = stream.finish().unwrap();
    assert_eq!(transcript.finish(), Finish::Cancelled);
    assert_eq!(transcript.text(), written);
    assert!(ocr.generate(request(&page).with_max_new_tokens(60)).unwrap().text().starts_with(&written));
}

#[test]
fn vision_tokens_survive_storage() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let (page, _) = pages().remove(2);
    let direct = ocr.encode(&page, Mode::Tiny);
    let data = direct.to_data().unwrap();
    let stored = deepseek_ocr::VisionTokens::from_data(data, &crate::device()).unwrap();
    assert_eq!(stored.len(), 73);
    let read = |vision| ocr.decode(vision, &Task::FreeOcr).unwrap();
    assert_eq!(read(&stored).ids(), read(&direct).ids());
}

#[test]
fn another_width_is_refused() {
    let ocr = DeepseekOcr::mini(&Device::default()).unwrap();
    let narrow = burn::tensor::Tensor::<2>::zeros([73, 12], &Device::default());
    let error = ocr.decode(&deepseek_ocr::VisionTokens::new(narrow), &Task::FreeOcr).unwrap_err();
    assert_eq!(error.to_string(), "vision tokens have width 12, this model expects 384");
}
