//! What can only be seen with models that fail.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::{Device, Finish, Mode, NoRepeat, Page, Task, decoder::Decoder, threads::Threads};
use burn::{module::Param, tensor::Tensor};
use deepseek_ocr_core::StoredLinearConfig;

/// A character that no answer and no other prompt here has.
const SICK: &str = "~";

/// The mini checkpoint with a change.
fn model(change: impl FnOnce(&mut Decoder, &DeepseekOcr)) -> DeepseekOcr {
    let mini = DeepseekOcr::mini(&Device::default()).unwrap();
    let mut decoder = mini.decoder().clone();
    change(&mut decoder, &mini);
    DeepseekOcr::new(
        (mini.encoder().clone(), decoder),
        mini.tokenizer().clone(),
        mini.device().clone(),
        Threads::default(),
    )
}

fn request(prompt: &str) -> Request {
    let page = Page::open(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/page.png")).unwrap();
    let request = Request::new(page).with_mode(Mode::Tiny).with_task(Task::Custom(prompt.into()));
    request.with_no_repeat(NoRepeat::Off).with_max_new_tokens(12)
}

fn sick(ocr: &DeepseekOcr) -> usize {
    let [sick] = ocr.tokenizer().encode(SICK).unwrap()[..] else { panic!("one token") };
    assert!(!ocr.tokenizer().encode(&Task::FreeOcr.prompt()).unwrap().contains(&sick));
    sick as usize
}

#[test]
fn a_request_whose_numbers_fail_ends_alone() {
    let ocr = model(|decoder, mini| {
        let (sick, weight) = (sick(mini), decoder.embed_tokens.weight.val());
        let width = weight.dims()[1];
        let nan = Tensor::<2>::full([1, width], f32::NAN, (&weight.device(), weight.dtype()));
        decoder.embed_tokens.weight = Param::from_tensor(weight.slice_assign([sick..sick + 1, 0..width], nan));
    });
    let engine = Engine::new(&ocr, EngineOptions::default()).unwrap();
    let streams = ["Free OCR.", SICK, "Free OCR."].map(|prompt| engine.submit(request(prompt)).unwrap());
    let [first, mut failing, third] = streams;
    assert!(matches!(failing.next(), Some(Err(Error::NotFinite { .. }))));
    assert!(failing.next().is_none());
    assert_eq!(failing.finish().unwrap().finish(), Finish::Failed);
    let alone = ocr.generate(request("Free OCR.")).unwrap();
    assert_eq!([first, third].map(|stream| stream.finish().unwrap()), [alone.clone(), alone]);
    assert_eq!(engine.load(), Load { steps: engine.load().steps, ..Load::default() });
}

#[test]
fn a_panic_while_a_request_joins_ends_that_request() {
    let ocr = model(|decoder, mini| {
        let (sick, weight) = (sick(mini), decoder.embed_tokens.weight.val());
        decoder.embed_tokens.weight = Param::from_tensor(weight.narrow(0, 0, sick));
    });
    let engine = Engine::new(&ocr, EngineOptions::default()).unwrap();
    let streams = ["Free OCR.", SICK, "Free OCR."].map(|prompt| engine.submit(request(prompt)).unwrap());
    let [first, failing, third] = streams.map(EngineStream::finish);
    assert!(matches!(failing, Err(Error::EnginePanicked { .. })), "{failing:?}");
    let alone = ocr.generate(request("Free OCR.")).unwrap();
    assert_eq!([first.unwrap(), third.unwrap()], [alone.clone(), alone]);
    assert_eq!(engine.load().running, 0);
}

#[test]
fn a_panic_in_a_step_ends_the_requests_in_it_and_not_the_engine() {
    let ocr = model(|decoder, _| {
        let config = decoder.config();
        decoder.lm_head = StoredLinearConfig::without_bias(config.hidden / 2, config.vocab).init(&decoder.device());
    });
    let engine = Engine::new(&ocr, EngineOptions::default().with_rows(2).with_queue(8)).unwrap();
    for _ in 0..2 {
        let streams: Vec<_> = (0..5).map(|_| engine.submit(request("Free OCR.")).unwrap()).collect();
        for stream in streams {
            let error = stream.finish().unwrap_err();
            assert!(matches!(error, Error::EnginePanicked { .. }), "{error}");
        }
    }
    assert_eq!(engine.load(), Load::default());
}
