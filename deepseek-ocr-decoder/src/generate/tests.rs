mod ahead;

use super::*;
use crate::{NoRepeat, Sampling, Segment, fixture};
use burn::tensor::Device;
use deepseek_ocr_core::VisionTokens;

/// No token of the fixture's vocabulary: nothing ends an answer but the limits.
const NO_EOS: u32 = 1000;

fn text(ids: &[u32]) -> Prompt {
    Prompt { segments: vec![Segment::Text(ids.to_vec())], vision_id: 36 }
}

fn options() -> GenerateOptions {
    GenerateOptions::new(NO_EOS).with_max_new_tokens(12)
}

fn run(decoder: &Decoder, rows: Vec<(Prompt, GenerateOptions)>) -> Generation {
    let mut generation = Generation::new(decoder, rows).unwrap();
    let count = generation.rows.len();
    let mut streamed = vec![Vec::new(); count];
    while !generation.is_finished() {
        for token in generation.advance(decoder).unwrap() {
            streamed[token.row].push((token.id, token.probability));
        }
    }
    assert!(generation.advance(decoder).unwrap().is_empty());
    for (row, streamed) in streamed.into_iter().enumerate() {
        let (ids, probabilities): (Vec<_>, Vec<_>) = streamed.into_iter().unzip();
        assert_eq!((generation.ids(row), generation.probabilities(row)), (&ids[..], &probabilities[..]));
    }
    generation
}

fn one(decoder: &Decoder, prompt: Prompt, options: GenerateOptions) -> (Vec<u32>, Finish) {
    let generation = run(decoder, vec![(prompt, options)]);
    (generation.ids(0).to_vec(), generation.finish(0).unwrap())
}

/// Eight rows of every kind: lengths, pages, guards, sampling, limits.
fn mixed(decoder: &Decoder) -> Vec<(Prompt, GenerateOptions)> {
    let hidden = decoder.config().hidden;
    let page = |seed: u64| {
        let count = 3 + seed as usize;
        let values = fixture::values(count * hidden, 90 + seed);
        let tensor = Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape([count, hidden]);
        Segment::Vision(VisionTokens::new(tensor))
    };
    let row = |i: u32| {
        let head = Segment::Text((0..=i).map(|k| (7 * i + 3 * k) % 37).collect());
        let segments = match i {
            0 | 3 => vec![head],
            5 => vec![head, page(1), Segment::Text(vec![4]), page(2)],
            _ => vec![head, page(u64::from(i)), Segment::Text(vec![1, 2])],
        };
        let options = GenerateOptions::new(if i == 2 { 20 } else { NO_EOS }).with_max_new_tokens(6 + 2 * i as usize);
        let options = match i {
            1 => options.with_no_repeat(NoRepeat::Sequence { ngram: 2 }),
            4 => options.with_no_repeat(NoRepeat::Window { ngram: 2, window: 8, allowed: vec![3] }),
            6 | 7 => options.with_sampling(Sampling::Nucleus { temperature: 1.5, top_p: 0.9, seed: u64::from(i) }),
            _ => options,
        };
        (Prompt { segments, vision_id: 36 }, options)
    };
    (0..8).map(row).collect()
}

#[test]
fn rows_of_a_batch_are_those_of_single_runs_to_the_bit() {
    let decoder = fixture::decoder();
    let together = run(&decoder, mixed(&decoder));
    for (row, single) in mixed(&decoder).into_iter().enumerate() {
        let alone = run(&decoder, vec![single]);
        assert_eq!(together.ids(row), alone.ids(0), "row {row}");
        assert_eq!(together.probabilities(row), alone.probabilities(0), "row {row}");
        assert_eq!(together.finish(row), alone.finish(0), "row {row}");
    }
}

#[test]
fn the_probabilities_are_those_of_the_chosen_tokens() {
    let decoder = fixture::decoder();
    let generation = run(&decoder, vec![(text(&[3, 9]), options())]);
    let mut sequence = vec![3, 9];
    for (&id, &probability) in generation.ids(0).iter().zip(generation.probabilities(0)) {
        let x = decoder.embed(&[Segment::Text(sequence.clone())]).unwrap();
        let x = decoder.forward_all(x).pop().unwrap().narrow(0, sequence.len() - 1, 1);
        let all = fixture::floats(burn::tensor::activation::softmax(decoder.logits(x), 1));
        assert!((all[id as usize] - probability).abs() < 1e-5);
        assert!(all.iter().all(|&other| other <= all[id as usize]));
        sequence.push(id);
    }
}

#[test]
fn eos_ends_a_row_and_is_not_part_of_it() {
    let decoder = fixture::decoder();
    let (ids, finish) = one(&decoder, text(&[3, 9]), options());
    assert_eq!((ids.len(), finish), (12, Finish::Length));

    let first = GenerateOptions { eos: ids[0], ..options() };
    assert_eq!(one(&decoder, text(&[3, 9]), first), (vec![], Finish::Stop));
    let end = (1..12).find(|&i| !ids[..i].contains(&ids[i])).expect("the fixture says the same all the time");
    let later = GenerateOptions { eos: ids[end], ..options() };
    assert_eq!(one(&decoder, text(&[3, 9]), later), (ids[..end].to_vec(), Finish::Stop));
}

#[test]
fn the_token_limit_and_the_context_end_a_row() {
    let decoder = fixture::decoder();
    let context = decoder.config().context;
    assert_eq!(one(&decoder, text(&[1]), options().with_max_new_tokens(0)), (vec![], Finish::Length));
    assert_eq!(one(&decoder, text(&[1]), options().with_max_new_tokens(1)).0.len(), 1);

    let unlimited = options().with_max_new_tokens(usize::MAX);
    for length in [1, context - 1] {
        let (ids, finish) = one(&decoder, text(&vec![2; length]), unlimited.clone());
        assert_eq!((ids.len(), finish), (context - length, Finish::Length));
    }
    let error = Generation::new(&decoder, vec![(text(&vec![2; context]), unlimited)]).unwrap_err();
    assert!(matches!(error, Error::PromptTooLong { tokens, context: limit } if tokens == context && limit == context));
}

#[test]
fn a_cancelled_row_stops_and_the_others_go_on() {
    let decoder = fixture::decoder();
    let rows = || vec![(text(&[1, 2, 3]), options()), (text(&[9]), options()), (text(&[4, 4]), options())];
    let whole = run(&decoder, rows());
    let mut generation = Generation::new(&decoder, rows()).unwrap();
    generation.cancel(2);
    assert_eq!(generation.advance(&decoder).unwrap().len(), 2);
    assert_eq!(generation.advance(&decoder).unwrap().len(), 2);
    generation.cancel(0);
    let rows: Vec<usize> = generation.advance(&decoder).unwrap().iter().map(|token| token.row).collect();
    assert_eq!(rows, [1]);
    while !generation.is_finished() {
        generation.advance(&decoder).unwrap();
    }
    generation.cancel(1);
    assert_eq!([0, 1, 2].map(|row| generation.ids(row).len()), [2, 12, 0]);
    assert_eq!(generation.ids(0), &whole.ids(0)[..2]);
    assert_eq!(generation.ids(1), whole.ids(1));
    let finish = [0, 1, 2].map(|row| generation.finish(row).unwrap());
    assert_eq!(finish, [Finish::Cancelled, Finish::Length, Finish::Cancelled]);
}

#[test]
fn a_guard_that_bans_every_token_ends_the_row() {
    let decoder = fixture::decoder();
    let vocab = decoder.config().vocab as u32;
    let all: Vec<u32> = (0..vocab - 2).collect();
    let guarded = options().with_no_repeat(NoRepeat::Sequence { ngram: 1 });
    let (mut ids, finish) = one(&decoder, text(&all), guarded);
    ids.sort_unstable();
    assert_eq!((ids, finish), (vec![vocab - 2, vocab - 1], Finish::Repetition));
}

#[test]
fn the_whole_sequence_guard_sees_vision_tokens_as_their_id() {
    let decoder = fixture::decoder();
    let page = VisionTokens::new(Tensor::zeros([2, decoder.config().hidden], &Device::flex()));
    let (free, _) = one(&decoder, text(&[5]), options());
    let prompt =
        |vision_id| Prompt { segments: vec![Segment::Vision(page.clone()), Segment::Text(vec![5])], vision_id };
    let guarded = options().with_no_repeat(NoRepeat::Sequence { ngram: 1 }).with_max_new_tokens(20);
    for vision_id in free.into_iter().take(3) {
        assert!(!one(&decoder, prompt(vision_id), guarded.clone()).0.contains(&vision_id));
    }
}

#[test]
fn circles_are_given_up() {
    let cycle: Vec<u32> = (0..40).map(|i| [7, 8, 9][i % 3]).collect();
    let stop = LoopStop::new(12, 4);
    assert!(stop.stops(&cycle) && stop.stops(&cycle[..12]));
    assert!(!stop.stops(&cycle[..11]));
    assert!(!LoopStop::new(12, 2).stops(&cycle));
    assert!(!LoopStop::OFF.stops(&cycle) && !LoopStop::default().stops(&cycle));
    let mut broken = cycle.clone();
    broken[30] = 0;
    assert!(!stop.stops(&broken) && stop.stops(&broken[..30]));
    // Twelve tokens cannot show a period of seven twice.
    assert!(!LoopStop::new(12, 7).stops(&[0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 4]));

    let decoder = fixture::decoder();
    let (ids, finish) =
        one(&decoder, text(&[5]), options().with_loop_stop(LoopStop::new(4, 2)).with_max_new_tokens(40));
    let last = &ids[ids.len() - 4..];
    assert_eq!(finish, Finish::Repetition, "{ids:?}");
    assert_eq!(last[..2], last[2..]);
}

#[test]
fn requests_that_cannot_be_are_refused_at_the_door() {
    let decoder = fixture::decoder();
    let refused =
        |prompt: Prompt, options: GenerateOptions| Generation::new(&decoder, vec![(prompt, options)]).unwrap_err();
    assert!(matches!(refused(text(&[]), options()), Error::InvalidRequest { field: "prompt", .. }));
    assert!(matches!(refused(text(&[37]), options()), Error::InvalidRequest { field: "token id", .. }));
    let ngram = options().with_no_repeat(NoRepeat::Sequence { ngram: 0 });
    assert!(matches!(refused(text(&[1]), ngram), Error::InvalidRequest { .. }));
    let cold = options().with_sampling(Sampling::Nucleus { temperature: 0.0, top_p: 1.0, seed: 0 });
    assert!(matches!(refused(text(&[1]), cold), Error::InvalidRequest { field: "temperature", .. }));
    let page = VisionTokens::new(Tensor::zeros([2, 5], &Device::flex()));
    let foreign = Prompt { segments: vec![Segment::Vision(page)], vision_id: 36 };
    assert!(matches!(refused(foreign, options()), Error::VisionTokensWidth { found: 5, expected: 12 }));
}

#[test]
fn a_model_that_computes_nan_is_an_error() {
    let decoder = fixture::decoder();
    let page = VisionTokens::new(Tensor::full([2, decoder.config().hidden], f32::NAN, &Device::flex()));
    let prompt = Prompt { segments: vec![Segment::Vision(page)], vision_id: 36 };
    let error = Generation::new(&decoder, vec![(prompt, options())]).unwrap().advance(&decoder).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }));
}

#[test]
fn no_rows_are_finished_at_once() {
    let decoder = fixture::decoder();
    let mut generation = Generation::new(&decoder, vec![]).unwrap();
    assert!(generation.is_finished() && generation.advance(&decoder).unwrap().is_empty());
}

#[test]
fn rows_that_join_and_leave_get_what_they_get_alone_and_give_their_blocks_back() {
    let decoder = fixture::decoder();
    let mut waiting: Vec<_> = mixed(&decoder).into_iter().enumerate().collect();
    let (mut generation, mut places) = (Generation::new(&decoder, vec![]).unwrap(), Vec::new());
    let mut answers = vec![None; waiting.len()];
    while !(waiting.is_empty() && places.is_empty()) {
        // Three at a time, and one that joins and leaves again.
        while places.len() < 3 && !waiting.is_empty() {
            let (request, (prompt, options)) = waiting.remove(0);
            places.push((generation.join(&decoder, &prompt, options).unwrap(), request));
            let guest = generation.join(&decoder, &text(&[2; 20]), self::options()).unwrap();
            generation.advance(&decoder).unwrap();
            assert_eq!(generation.leave(guest).ids.len(), 1);
        }
        generation.advance(&decoder).unwrap();
        places.retain(|&(row, request)| {
            let ended = generation.finish(row).is_some();
            if ended {
                answers[request] = Some(generation.leave(row));
            }
            !ended
        });
        assert_eq!(generation.cache().held_blocks(), places.len());
    }
    assert!(generation.rows.len() <= 4 && generation.is_finished());
    assert_eq!(generation.cache().allocated_blocks(), 0);
    for (answer, single) in answers.into_iter().zip(mixed(&decoder)) {
        assert_eq!(answer.unwrap(), run(&decoder, vec![single]).leave(0));
    }
}

#[test]
fn a_row_that_fails_leaves_the_others_alone() {
    let decoder = fixture::decoder();
    let page = VisionTokens::new(Tensor::full([2, decoder.config().hidden], f32::NAN, &Device::flex()));
    let sick = Prompt { segments: vec![Segment::Vision(page)], vision_id: 36 };
    let (whole, _) = one(&decoder, text(&[1, 2, 3]), options());
    let mut generation = Generation::new(&decoder, vec![(text(&[1, 2, 3]), options()), (sick, options())]).unwrap();
    let outcomes = generation.advance_each(&decoder);
    assert!(matches!(&outcomes[0], Outcome { row: 0, token: Ok(Some(token)) } if token.id == whole[0]));
    assert!(matches!(&outcomes[1], Outcome { row: 1, token: Err(Error::NotFinite { .. }) }));
    assert_eq!((generation.finish(1), generation.cache().held_blocks()), (Some(Finish::Failed), 1));
    while !generation.is_finished() {
        assert_eq!(generation.advance(&decoder).unwrap().len(), 1);
    }
    assert_eq!((generation.leave(0).ids, generation.leave(1).ids), (whole, vec![]));
}

#[cfg(feature = "wgpu")]
#[test]
fn a_gpu_chooses_what_the_host_chooses() {
    use burn::{module::Module, tensor::DeviceKind};

    let cpu = fixture::decoder();
    let gpu = fixture::decoder().to_device(&Device::wgpu(DeviceKind::DefaultDevice)).settled();
    // The rows that sample among those that do not, and more rows than the kernels take as few.
    let rows = || mixed(&cpu).into_iter().chain(mixed(&cpu)).chain(mixed(&cpu)).collect::<Vec<_>>();
    let [expected, found] = [&cpu, &gpu].map(|decoder| run(decoder, rows()));
    for row in 0..rows().len() {
        assert_eq!(found.ids(row), expected.ids(row), "row {row}");
        assert_eq!(found.finish(row), expected.finish(row), "row {row}");
        fixture::assert_close(found.probabilities(row), expected.probabilities(row), 1e-4);
    }
}
