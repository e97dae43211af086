//! A model with threads of its own.

use deepseek_ocr::{DeepseekOcr, Error, Loader};

fn loader(threads: usize) -> Loader {
    DeepseekOcr::loader(crate::first::folder()).with_device(&crate::device()).with_threads(threads)
}

#[test]
fn the_text_does_not_depend_on_the_number_of_threads() {
    let (page, _) = crate::first::pages().into_iter().next().unwrap();
    let request = || crate::mini::request(&page).with_max_new_tokens(40);
    let expected = crate::first::model().generate(request()).unwrap();
    for threads in [1, 3] {
        let ocr = loader(threads).load().unwrap();
        let alone = ocr.generate(request()).unwrap();
        assert_eq!(alone.text(), expected.text(), "{threads} threads");
        let together = ocr.generate_batch([request(), request()]);
        for transcript in together {
            assert_eq!(transcript.unwrap().text(), expected.text(), "{threads} threads, two rows");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn clones_share_as_many_threads_as_were_asked_for() {
    // Pools of other tests have three threads at most.
    let number = |name: String| name.trim().strip_prefix("deepseek-ocr-")?.parse::<usize>().ok();
    let beyond_the_third = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter_map(number).filter(|&number| number >= 3).count()
    };
    let ocr = loader(17).load().unwrap();
    let (page, _) = crate::first::pages().into_iter().next().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (ocr, request) = (ocr.clone(), crate::mini::request(&page).with_max_new_tokens(5));
            scope.spawn(move || ocr.generate(request).unwrap());
        }
    });
    assert_eq!(beyond_the_third(), 17 - 3);
}

#[test]
fn no_threads_are_refused() {
    let error = loader(0).load().unwrap_err();
    assert!(matches!(error, Error::InvalidRequest { field: "threads", .. }), "{error}");
    assert_eq!(error.to_string(), "invalid request: threads is 0, expected at least 1");
}
