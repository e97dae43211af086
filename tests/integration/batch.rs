//! Rows do not touch each other: batches and threads give what single runs give.

use crate::mini::{pages, request};
use deepseek_ocr::{DeepseekOcr, Error, Mode, NoRepeat, Page, Request, Sampling, Task};

/// Eight requests that differ in page, task, length, guard and sampling.
fn requests() -> Vec<Request> {
    let pages: Vec<Page> = pages().into_iter().map(|(page, _)| page).collect();
    let tasks = [Task::FreeOcr, Task::Markdown, Task::Describe, Task::Locate("the road".into())];
    let request = |i: usize| {
        let request = request(&pages[i % pages.len()]).with_task(tasks[i % tasks.len()].clone());
        let request = if i == 5 { request.with_mode(Mode::Small) } else { request };
        match i {
            1 => request.with_max_new_tokens(40),
            2 => request.with_no_repeat(NoRepeat::Sequence { ngram: 3 }).with_max_new_tokens(120),
            3 => request.with_sampling(Sampling::Nucleus { temperature: 1.5, top_p: 0.95, seed: 7 }),
            _ => request.with_max_new_tokens(200 + 10 * i),
        }
    };
    (0..8).map(request).collect()
}

#[test]
fn a_batch_of_eight_equals_eight_single_runs() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let together = ocr.generate_batch(requests());
    assert_eq!(together.len(), 8);
    for (i, (row, request)) in together.into_iter().zip(requests()).enumerate() {
        let (row, single) = (row.unwrap(), ocr.generate(request).unwrap());
        assert_eq!(row.ids(), single.ids(), "row {i}");
        assert_eq!((row.text(), row.finish()), (single.text(), single.finish()), "row {i}");
        assert!(row.usage().text_tokens >= 20, "row {i} is too short to tell");
    }
}

#[test]
fn a_request_that_fails_leaves_the_others_alone() {
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    let mut requests: Vec<_> = requests().into_iter().take(3).collect();
    requests[1] = requests[1].clone().with_task(Task::Custom("x ".repeat(5000)));
    let results = ocr.generate_batch(requests);
    assert!(matches!(results[1], Err(Error::PromptTooLong { context: 4096, tokens }) if tokens > 5000));
    assert!(results[0].is_ok() && results[2].is_ok());
}

#[test]
fn clones_in_four_threads_give_what_one_gives() {
    fn assert_shared<T: Clone + Send + Sync + 'static>(_: &T) {}
    let ocr = DeepseekOcr::mini(&crate::device()).unwrap();
    assert_shared(&ocr);
    let requests: Vec<_> = requests().into_iter().take(4).collect();
    let alone: Vec<_> = requests.iter().map(|request| ocr.generate(request.clone()).unwrap()).collect();
    let threads: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let ocr = ocr.clone();
            std::thread::spawn(move || ocr.generate(request).unwrap())
        })
        .collect();
    let at_once: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(at_once, alone);
}
