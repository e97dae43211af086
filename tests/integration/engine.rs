//! Many requests at once: what the engine gives, and that it always ends.

use crate::mini::pages;
use deepseek_ocr::{
    DeepseekOcr, Engine, EngineOptions, EngineStream, Error, Finish, Load, Mode, NoRepeat, Page, Request, Sampling,
    Task, Transcript, WhenFull,
};
use rayon::prelude::*;
use std::{
    sync::{Arc, Barrier, mpsc},
    thread,
    time::{Duration, Instant},
};

/// Far more than anything here takes: whoever waits longer waits for ever.
const PATIENCE: Duration = Duration::from_secs(120);

fn mini() -> DeepseekOcr {
    DeepseekOcr::mini(&crate::device()).unwrap()
}

fn short(page: &Page, tokens: usize) -> Request {
    let request = Request::new(page).with_mode(Mode::Tiny).with_task(Task::FreeOcr).with_no_repeat(NoRepeat::Off);
    request.with_max_new_tokens(tokens)
}

/// Requests that differ in page, task, length, guard and sampling.
fn requests() -> Vec<Request> {
    let request = |(i, page): (usize, Page)| match i {
        1 => short(&page, 9),
        2 => short(&page, 25).with_no_repeat(NoRepeat::Sequence { ngram: 2 }),
        3 => short(&page, 30).with_sampling(Sampling::Nucleus { temperature: 1.5, top_p: 0.95, seed: 7 }),
        4 => short(&page, 1).with_task(Task::Describe),
        _ => short(&page, 20 + i),
    };
    pages().into_iter().map(|(page, _)| page).enumerate().map(request).collect()
}

/// Waits for something that another thread is about to do.
fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `f` on a thread of its own and fails, rather than waits for ever, if it does not end.
fn ends<R: Send + 'static>(what: &str, f: impl FnOnce() -> R + Send + 'static) -> R {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(f()));
    receiver.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn assert_idle(engine: &Engine) {
    let load = engine.load();
    let bytes = (load.reserved_bytes, load.allocated_bytes);
    assert_eq!((load.submitting, load.waiting, load.running, bytes), (0, 0, 0, (0, 0)));
}

#[test]
fn sixty_four_pages_from_sixteen_threads_get_what_they_get_alone() {
    let ocr = mini();
    let requests = Arc::new(requests());
    let alone: Vec<Transcript> = requests.iter().map(|request| ocr.generate(request.clone()).unwrap()).collect();
    let engine = Engine::new(&ocr, EngineOptions::default().with_rows(8).with_queue(5)).unwrap();
    let threads: Vec<_> = (0..16)
        .map(|thread| {
            let (engine, requests) = (engine.clone(), Arc::clone(&requests));
            let numbers: Vec<usize> = (0..4).map(|i| (thread + 5 * i) % requests.len()).collect();
            let read = move || {
                let streams = numbers.iter().map(|&number| engine.submit(requests[number].clone()).unwrap());
                let streams: Vec<_> = streams.collect();
                numbers.into_iter().zip(streams.into_iter().map(|s| s.finish().unwrap())).collect::<Vec<_>>()
            };
            thread::spawn(read)
        })
        .collect();
    let read: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert_eq!(read.len(), 64);
    for (number, transcript) in read {
        assert_eq!(transcript.ids(), alone[number].ids(), "request {number}");
        assert_eq!(transcript, alone[number], "request {number}");
    }
    assert_idle(&engine);
    let tokens: usize = (0..64).map(|i| alone[(i / 4 + 5 * (i % 4)) % alone.len()].ids().len()).sum();
    assert!(
        engine.load().steps < tokens as u64 / 4,
        "{} steps for {tokens} tokens: rows ran alone",
        engine.load().steps
    );
}

#[test]
fn a_dropped_stream_frees_its_row_within_one_step() {
    let (page, _) = pages().remove(0);
    let engine = Engine::new(&mini(), EngineOptions::default().with_rows(2)).unwrap();
    let streams = [0; 3].map(|_| engine.submit(short(&page, 3000)).unwrap());
    let [mut first, mut second, third] = streams;
    for stream in [&mut first, &mut second] {
        assert!(!stream.next().unwrap().unwrap().is_empty());
    }
    assert_eq!((engine.load().running, engine.load().waiting), (2, 1));
    let before = engine.load();
    drop(first);
    until("the third starts", || engine.load().waiting == 0);
    // The step that was under way, and one that may have begun between the look and the drop.
    assert!(engine.load().steps <= before.steps + 2);
    let steps = engine.load().steps;
    drop((second, third));
    until("nothing runs", || engine.load().running == 0);
    assert!(engine.load().steps <= steps + 2);
    assert_idle(&engine);
}

#[test]
fn streams_give_pieces_and_a_cancelled_one_keeps_them() {
    let (page, _) = pages().remove(1);
    let engine = Engine::new(&mini(), EngineOptions::default().with_rows(1)).unwrap();
    let (mut running, mut queued) =
        (engine.submit(short(&page, 3000)).unwrap(), engine.submit(short(&page, 9)).unwrap());
    let written: String = running.by_ref().take(20).map(Result::unwrap).collect();
    queued.cancel();
    assert_eq!(engine.load().waiting, 0);
    let queued = queued.finish().unwrap();
    assert_eq!((queued.finish(), queued.text()), (Finish::Cancelled, ""));
    running.cancel();
    let running = running.finish().unwrap();
    assert_eq!(running.finish(), Finish::Cancelled);
    assert!(running.text().starts_with(&written) && running.usage().text_tokens >= 20);
    assert!(mini().generate(short(&page, 60)).unwrap().text().starts_with(&written));
    assert_idle(&engine);
}

#[test]
fn a_stream_that_another_thread_waits_for_can_be_cancelled() {
    let (page, _) = pages().remove(1);
    let engine = Engine::new(&mini(), EngineOptions::default().with_rows(1)).unwrap();
    let (mut running, queued) =
        (engine.submit(short(&page, 3000)).unwrap(), engine.submit(short(&page, 3000)).unwrap());
    running.next().unwrap().unwrap();
    let cancellers = [queued.canceller(), running.canceller()];
    let [queued, running] = [queued, running].map(|stream| thread::spawn(move || stream.finish().unwrap()));
    cancellers[0].cancel();
    let queued = queued.join().unwrap();
    assert_eq!((queued.finish(), queued.text(), engine.load().waiting), (Finish::Cancelled, "", 0));
    cancellers[1].cancel();
    assert_eq!(running.join().unwrap().finish(), Finish::Cancelled);
    until("nothing runs", || engine.load().running == 0);
    assert_idle(&engine);
    // What has ended stays as it ended.
    let ended = engine.submit(short(&page, 2)).unwrap();
    let canceller = ended.canceller();
    until("it has ended", || engine.load().running + engine.load().waiting == 0);
    canceller.cancel();
    assert_eq!(ended.finish().unwrap().finish(), Finish::Length);
}

#[test]
fn a_full_queue_refuses_or_waits_in_order_as_asked() {
    let (page, _) = pages().remove(2);
    let ocr = mini();
    let options = EngineOptions::default().with_rows(1).with_queue(1);
    let engine = Engine::new(&ocr, options.clone().with_when_full(WhenFull::Refuse)).unwrap();
    let mut running = engine.submit(short(&page, 3000)).unwrap();
    running.next().unwrap().unwrap();
    let queued = engine.submit(short(&page, 2)).unwrap();
    assert!(matches!(engine.submit(short(&page, 2)), Err(Error::QueueFull { limit: 1 })));
    drop(queued);
    let queued = engine.submit(short(&page, 2)).unwrap();
    running.cancel();
    assert_eq!(queued.finish().unwrap().ids().len(), 2);

    let engine = Engine::new(&ocr, options).unwrap();
    let mut running = engine.submit(short(&page, 3000)).unwrap();
    running.next().unwrap().unwrap();
    let queued = engine.submit(short(&page, 2)).unwrap();
    let (sender, submitted) = mpsc::channel();
    let waiting = {
        let (engine, page) = (engine.clone(), page.clone());
        thread::spawn(move || {
            let stream = engine.submit(short(&page, 3)).unwrap();
            sender.send(()).unwrap();
            stream.finish().unwrap()
        })
    };
    until("it waits", || engine.load().submitting == 1);
    assert!(submitted.try_recv().is_err(), "it did not wait");
    drop(running);
    submitted.recv_timeout(PATIENCE).unwrap();
    assert_eq!((queued.finish().unwrap().ids().len(), waiting.join().unwrap().ids().len()), (2, 3));
    assert_idle(&engine);
}

#[test]
fn the_budget_admits_what_fits_and_refuses_what_never_can() {
    let ocr = mini();
    let (page, _) = pages().remove(3);
    // Memory is held for 512 positions at once: 3 layers of 384, keys and values in f32.
    let slab = 2 * 3 * 384 * 4 * 512;
    let options = EngineOptions::default().with_cache_bytes(slab + 1);
    let engine = Engine::new(&ocr, options).unwrap();
    let Err(Error::CacheBudget { needed, budget }) = engine.submit(short(&page, 3000)) else { panic!("it was taken") };
    assert!(needed > budget && budget == slab + 1, "{needed} of {budget}");
    // 73 vision tokens and a few more: with 160 a request needs 4 blocks of 8.
    let streams: Vec<_> = (0..5).map(|_| engine.submit(short(&page, 160)).unwrap()).collect();
    let mut most = Load::default();
    let mut streams = streams.into_iter().map(|stream| {
        for piece in stream {
            piece.unwrap();
            let load = engine.load();
            if load.running >= most.running {
                most = load;
            }
            assert!(load.reserved_bytes <= slab && load.allocated_bytes <= slab, "{load:?}");
        }
    });
    assert_eq!(streams.by_ref().count(), 5);
    drop(streams);
    assert_eq!((most.running, most.reserved_bytes), (2, slab));
    assert_idle(&engine);
}

#[test]
fn what_cannot_be_is_refused_at_the_door() {
    let ocr = mini();
    let refused = |options| matches!(Engine::new(&ocr, options), Err(Error::InvalidRequest { .. }));
    let options = EngineOptions::default;
    assert!(refused(options().with_rows(0)) && refused(options().with_rows(257)));
    assert!(refused(options().with_queue(0)) && refused(options().with_pages_together(0)));
    let engine = Engine::new(&ocr, options().with_rows(256)).unwrap();
    let (page, _) = pages().remove(0);
    let long = short(&page, 5).with_task(Task::Custom("x ".repeat(5000)));
    assert!(matches!(engine.submit(long), Err(Error::PromptTooLong { .. })));
    let cold = short(&page, 5).with_sampling(Sampling::Nucleus { temperature: 0.0, top_p: 1.0, seed: 0 });
    assert!(matches!(engine.submit(cold), Err(Error::InvalidRequest { field: "temperature", .. })));
    assert_eq!(engine.submit(short(&page, 0)).unwrap().finish().unwrap().finish(), Finish::Length);
}

#[test]
fn pages_encoded_together_give_the_same_text() {
    let ocr = mini();
    let requests = requests();
    let engine = Engine::new(&ocr, EngineOptions::default().with_pages_together(3)).unwrap();
    let streams: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    for (stream, request) in streams.into_iter().zip(requests) {
        assert_eq!(stream.finish().unwrap().text(), ocr.generate(request).unwrap().text());
    }
}

#[test]
fn a_dropped_engine_stops_and_a_drained_one_ends_its_work() {
    let ocr = mini();
    let (page, _) = pages().remove(4);
    let start = || Engine::new(&ocr, EngineOptions::default().with_rows(1)).unwrap();
    let engine = start();
    let (mut running, queued) = (engine.submit(short(&page, 3000)).unwrap(), engine.submit(short(&page, 3)).unwrap());
    running.next().unwrap().unwrap();
    drop(engine.clone());
    assert_eq!(engine.load().running, 1);
    ends("dropping the engine", move || drop(engine));
    assert!(matches!(queued.finish(), Err(Error::EngineStopped)));
    let last = running.by_ref().last().unwrap();
    assert!(matches!(last, Err(Error::EngineStopped)), "{last:?}");
    assert_eq!(running.finish().unwrap().finish(), Finish::Failed);

    let engine = start();
    let streams = [5, 4].map(|tokens| engine.submit(short(&page, tokens)).unwrap());
    let drained = engine.clone();
    ends("draining", move || drained.drain());
    assert_idle(&engine);
    assert!(matches!(engine.submit(short(&page, 3)), Err(Error::EngineStopped)));
    assert_eq!(streams.map(|stream| stream.finish().unwrap().ids().len()), [5, 4]);
}

#[test]
fn threads_of_the_pool_that_computes_may_wait_for_the_engine() {
    let ocr = mini();
    let (page, _) = pages().remove(5);
    let all_wait = move || {
        let engine = Engine::new(&ocr, EngineOptions::default().with_rows(2).with_queue(1)).unwrap();
        let read = |tokens| engine.submit(short(&page, tokens)).unwrap().finish().unwrap().ids().len();
        let lengths: Vec<usize> = (1..13usize).into_par_iter().with_max_len(1).map(read).collect();
        engine.drain();
        rayon::scope(|_| drop(engine));
        lengths
    };
    assert_eq!(ends("waiting in a pool", all_wait), (1..=12).collect::<Vec<_>>());
}

#[test]
fn two_thousand_random_actions_end() {
    let ocr = mini();
    let pages = Arc::new(pages().into_iter().map(|(page, _)| page).collect::<Vec<_>>());
    let engine = Engine::new(&ocr, EngineOptions::default().with_rows(6).with_queue(4)).unwrap();
    let begin = Arc::new(Barrier::new(8));
    let actor = |seed: u64| {
        let (engine, pages, begin) = (engine.clone(), Arc::clone(&pages), Arc::clone(&begin));
        move || {
            let mut random = Random(seed);
            let mut streams: Vec<EngineStream> = Vec::new();
            begin.wait();
            for _ in 0..250 {
                act(&engine, &pages, &mut streams, &mut random);
            }
        }
    };
    let actors: Vec<_> = (0..8).map(|seed| thread::spawn(actor(seed))).collect();
    ends("2000 actions", move || actors.into_iter().for_each(|actor| actor.join().unwrap()));
    until("all ends", || engine.load().running == 0);
    assert_idle(&engine);
    assert_eq!(engine.submit(short(&pages[0], 3)).unwrap().finish().unwrap().ids().len(), 3);
}

/// One of: submit, read a piece, cancel, drop, finish.
fn act(engine: &Engine, pages: &[Page], streams: &mut Vec<EngineStream>, random: &mut Random) {
    let action = random.below(100);
    // Nobody holds more than a few: what is held and not read takes places.
    if streams.is_empty() || (action < 40 && streams.len() < 5) {
        let request = short(&pages[random.below(pages.len())], random.below(4));
        return streams.push(engine.submit(request).unwrap());
    }
    let at = random.below(streams.len());
    match action {
        0..60 => streams[at].next().into_iter().for_each(|piece| assert!(!piece.unwrap().is_empty())),
        60..70 => streams[at].cancel(),
        70..90 => drop(streams.swap_remove(at)),
        _ => assert_ne!(streams.swap_remove(at).finish().unwrap().finish(), Finish::Failed),
    }
}

/// SplitMix64: any generator will do here.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}
