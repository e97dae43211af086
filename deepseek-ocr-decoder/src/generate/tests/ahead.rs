//! Steps that are queued before the host has read their tokens: nothing that a caller sees may tell.

use super::*;

fn ahead(decoder: &Decoder) -> Generation {
    Generation { queues: true, ..Generation::empty(decoder) }
}

/// Rows that choose the best token, and end by their limits, by their first and a later token as EOS, by circles and by a guard that
/// bans something now and then.
fn greedy(decoder: &Decoder) -> Vec<(Prompt, GenerateOptions)> {
    let (said, _) = one(decoder, text(&[3, 9]), options());
    let end = (1..12).find(|&i| !said[..i].contains(&said[i])).expect("the fixture says the same all the time");
    let eos = |at: usize| GenerateOptions { eos: said[at], ..options() };
    vec![
        (text(&[3, 9]), options()),
        (text(&[3, 9]), eos(0)),
        (text(&[3, 9]), eos(end)),
        (text(&[1]), options().with_max_new_tokens(0)),
        (text(&[1]), options().with_max_new_tokens(1)),
        (text(&[7, 7, 1]), options().with_max_new_tokens(2)),
        (text(&[5]), options().with_loop_stop(LoopStop::new(4, 2)).with_max_new_tokens(40)),
        (text(&[2; 20]), options().with_max_new_tokens(usize::MAX)),
        (text(&[5, 6]), options().with_no_repeat(NoRepeat::Sequence { ngram: 3 }).with_max_new_tokens(30)),
        (
            text(&[5, 6]),
            options()
                .with_no_repeat(NoRepeat::Window { ngram: 4, window: 9, allowed: vec![3] })
                .with_max_new_tokens(30),
        ),
    ]
}

/// What each call gives until the rows have ended, and what they wrote; how many calls left a step in the queue.
fn told(decoder: &Decoder, mut generation: Generation, rows: Vec<(Prompt, GenerateOptions)>) -> (Vec<String>, usize) {
    let (mut lines, mut queued) = (Vec::new(), 0);
    for (prompt, options) in rows {
        lines.push(format!("{:?}", generation.join(decoder, &prompt, options)));
    }
    while !generation.is_finished() {
        lines.push(format!("{:?}", generation.advance_each(decoder)));
        queued += usize::from(generation.queued.is_some());
    }
    assert!(generation.queued.is_none() && generation.cache().held_blocks() == 0);
    lines.extend((0..generation.rows.len()).map(|row| format!("{:?}", generation.leave(row))));
    (lines, queued)
}

#[test]
fn rows_are_those_of_steps_one_after_the_other_to_the_bit() {
    let decoder = fixture::decoder();
    let mut batches: Vec<_> = greedy(&decoder).into_iter().map(|row| vec![row]).collect();
    batches.push(greedy(&decoder));
    let free = |(_, options): &(Prompt, GenerateOptions)| options.no_repeat == NoRepeat::Off;
    batches.push(greedy(&decoder).into_iter().filter(free).collect());
    for rows in batches {
        let (expected, none) = told(&decoder, Generation::empty(&decoder), rows.clone());
        let (found, queued) = told(&decoder, ahead(&decoder), rows.clone());
        assert_eq!(found, expected);
        assert_eq!(none, 0);
        if rows.iter().all(|(_, options)| options.no_repeat == NoRepeat::Off) {
            // Each call but the last leaves a step behind: what lines there are beside those of joining and leaving.
            let calls = expected.len() - 2 * rows.len();
            assert_eq!(queued, calls.saturating_sub(1), "{rows:?}");
        }
    }
}

#[test]
fn a_row_that_may_choose_otherwise_keeps_the_batch_from_it() {
    let decoder = fixture::decoder();
    let nucleus = Sampling::Nucleus { temperature: 1.5, top_p: 0.9, seed: 1 };
    let bigrams = NoRepeat::Sequence { ngram: 2 };
    for options in [options().with_sampling(nucleus), options().with_no_repeat(bigrams)] {
        let rows = vec![(text(&[3, 9]), self::options()), (text(&[1, 2]), options)];
        let (expected, _) = told(&decoder, Generation::empty(&decoder), rows.clone());
        assert_eq!(told(&decoder, ahead(&decoder), rows), (expected, 0));
    }
    // The official guard looks at 29 tokens: none of them say anything about the next but one before they have come again.
    let guard = NoRepeat::Window { ngram: 30, window: 90, allowed: vec![] };
    let rows = vec![(text(&[3, 9]), options().with_no_repeat(guard))];
    assert_eq!(told(&decoder, ahead(&decoder), rows).1, 11);
}

#[test]
fn rows_join_and_leave_between_steps_that_are_queued() {
    let decoder = fixture::decoder();
    let run = |mut generation: Generation| {
        let (mut waiting, mut lines) = (greedy(&decoder), Vec::new());
        let mut places = Vec::new();
        while !(waiting.is_empty() && places.is_empty()) {
            while places.len() < 3 && !waiting.is_empty() {
                let (prompt, options) = waiting.remove(0);
                places.push(generation.join(&decoder, &prompt, options).unwrap());
                let guest = generation.join(&decoder, &text(&[2; 20]), self::options()).unwrap();
                lines.push(format!("{places:?} {guest} {:?}", generation.advance_each(&decoder)));
                // Its place in the queued step must not become that of the next one on its row.
                lines.push(format!("{:?}", generation.leave(guest)));
            }
            lines.push(format!("{:?}", generation.advance_each(&decoder)));
            places.retain(|&row| {
                let ended = generation.finish(row).is_some();
                if ended {
                    lines.push(format!("{:?}", generation.leave(row)));
                }
                !ended
            });
            assert_eq!(generation.cache().held_blocks(), places.len());
        }
        assert!(generation.queued.is_none());
        lines
    };
    assert_eq!(run(ahead(&decoder)), run(Generation::empty(&decoder)));
}

#[test]
fn rows_that_join_one_after_the_other_are_not_mistaken_for_each_other() {
    let decoder = fixture::decoder();
    let run = |mut generation: Generation| {
        let mut lines = Vec::new();
        for ids in [&[3, 9][..], &[1], &[7, 7, 1], &[5, 6]] {
            // A new row is read before those that run are stepped.
            lines.push(format!("{:?}", generation.join(&decoder, &text(ids), options())));
            lines.push(format!("{:?}", generation.advance_each(&decoder)));
        }
        while !generation.is_finished() {
            lines.push(format!("{:?}", generation.advance_each(&decoder)));
        }
        lines
    };
    assert_eq!(run(ahead(&decoder)), run(Generation::empty(&decoder)));
}

#[test]
fn a_row_is_cancelled_with_its_queued_step() {
    let decoder = fixture::decoder();
    let run = |mut generation: Generation| {
        for ids in [&[1, 2, 3][..], &[9], &[4, 4]] {
            generation.join(&decoder, &text(ids), options()).unwrap();
        }
        let mut lines = Vec::new();
        for cancelled in [1, 0] {
            lines.push(format!("{:?}", generation.advance_each(&decoder)));
            lines.push(format!("{:?}", generation.advance_each(&decoder)));
            generation.cancel(cancelled);
        }
        lines.push(format!("{:?}", generation.advance_each(&decoder)));
        generation.cancel(2);
        assert!(generation.queued.is_none() && generation.cache().held_blocks() == 0);
        // Another row takes the place.
        lines.push(format!("{:?}", generation.leave(1)));
        lines.push(format!("{:?}", generation.join(&decoder, &text(&[8, 8]), options())));
        while !generation.is_finished() {
            lines.push(format!("{:?}", generation.advance_each(&decoder)));
        }
        lines.extend((0..3).map(|row| format!("{:?}", generation.leave(row))));
        lines
    };
    assert_eq!(run(ahead(&decoder)), run(Generation::empty(&decoder)));
}

#[test]
fn a_row_that_fails_leaves_the_others_in_the_queue() {
    let decoder = fixture::decoder();
    let page = VisionTokens::new(Tensor::full([2, decoder.config().hidden], f32::NAN, &Device::flex()));
    let sick = Prompt { segments: vec![Segment::Vision(page)], vision_id: 36 };
    let rows = || vec![(text(&[1, 2, 3]), options()), (sick.clone(), options()), (text(&[9]), options())];
    let (expected, _) = told(&decoder, Generation::empty(&decoder), rows());
    let (found, queued) = told(&decoder, ahead(&decoder), rows());
    assert_eq!((found, queued), (expected, 11));
}

#[cfg(feature = "wgpu")]
#[test]
fn a_gpu_gives_to_the_bit_what_it_gives_when_the_host_waits() {
    use burn::{module::Module, tensor::DeviceKind};

    let cpu = fixture::decoder();
    let gpu = fixture::decoder().to_device(&Device::wgpu(DeviceKind::DefaultDevice)).settled();
    let free = |(_, options): &(Prompt, GenerateOptions)| options.no_repeat == NoRepeat::Off;
    for rows in [greedy(&cpu), greedy(&cpu).into_iter().filter(free).collect()] {
        let (found, queued) = told(&gpu, Generation::empty(&gpu), rows.clone());
        let (expected, none) = told(&gpu, Generation { queues: false, ..Generation::empty(&gpu) }, rows);
        assert_eq!(found, expected);
        assert!(queued > 10 && none == 0, "{queued} and {none} steps were queued");
    }
}
