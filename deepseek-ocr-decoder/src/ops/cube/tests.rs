//! Kernels against the reference, on whatever wgpu finds; a software Vulkan will do.

use super::super::{Rows, reference};
use crate::{
    Cache, Decoder, DecoderConfig, Experts, GatedMlp, Mlp, Moe, Routing, Segment, fixture,
    sampling::{Choice, Sampler},
};
use burn::{
    module::{Module, ModuleMapper, Param},
    nn::RmsNormConfig,
    tensor::{DType, Device, DeviceKind, FloatDType, Int, Tensor, TensorData},
};
use deepseek_ocr_core::{Error, ops::Precision};

/// Sums of f32 in another order, over numbers near one: seen 2e-6.
const NEAR: f32 = 5e-5;

const TOGETHER: Rows = Rows::Together(Precision::Exact);

fn gpu() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

fn random(shape: [usize; 2], seed: u64) -> Tensor<2> {
    Tensor::from_data(TensorData::new(fixture::values(shape.iter().product(), seed), shape), (&gpu(), DType::F32))
}

/// Gives the matrices of a module this type.
struct Store(FloatDType);

impl ModuleMapper for Store {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        Param::initialized(param.id, param.val().to_device(&gpu()).cast(self.0))
    }
}

fn moe(config: &DecoderConfig, dtype: FloatDType) -> Moe {
    let mut moe = fixture::fill(Moe::new(config, &Device::flex()));
    moe.experts = moe.experts.map(&mut Store(dtype)).stack();
    moe.shared_experts = moe.shared_experts.map(&mut Store(dtype));
    moe.gate = moe.gate.map(&mut Store(FloatDType::F32));
    assert!(matches!(moe.experts, Experts::Stacked(_)));
    moe
}

fn dtypes() -> impl Iterator<Item = FloatDType> {
    let all = [FloatDType::F32, FloatDType::F16, FloatDType::BF16];
    all.into_iter().filter(|&dtype| gpu().supports_dtype(dtype))
}

#[track_caller]
fn assert_near(actual: Option<Tensor<2>>, expected: Tensor<2>) {
    let actual = fixture::floats(actual.expect("the tensors are on a GPU"));
    fixture::assert_close(&actual, &fixture::floats(expected), NEAR);
}

#[test]
fn the_best_experts_in_order_and_the_first_among_equals() {
    for (positions, experts, chosen) in [(1, 64, 6), (70, 64, 6), (9, 5, 5), (3, 1, 1), (4, 200, 3)] {
        let scores = random([positions, experts], 7) * 3.0;
        let [actual, expected] = [super::choose(&scores, chosen).expect("on a GPU"), reference::choose(scores, chosen)];
        let indices = |routing: &Routing| routing.indices.to_data().iter::<i64>().collect::<Vec<_>>();
        assert_eq!(indices(&actual), indices(&expected));
        assert_near(Some(actual.weights), expected.weights);
    }
    let equal = super::choose(&Tensor::zeros([1, 7], &gpu()), 3).expect("on a GPU");
    assert_eq!(equal.indices.to_data().iter::<i64>().collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn experts_of_few_and_of_many_positions() {
    let wide = DecoderConfig { hidden: 96, expert_width: 40, shared_width: 72, experts: 9, ..fixture::config() };
    for config in [fixture::config(), DecoderConfig { experts_per_token: 3, ..wide }] {
        for dtype in dtypes() {
            let moe = moe(&config, dtype);
            for positions in [1, 2, 16, 17, 50, 150] {
                let x = random([positions, config.hidden], positions as u64);
                for rows in [Rows::Apart, TOGETHER] {
                    let routing = moe.gate.forward(rows, x.clone());
                    let expected = reference::expert_mlp(TOGETHER, x.clone(), routing.clone(), &moe);
                    assert_near(super::expert_mlp(rows, &x, &routing, &moe), expected);
                }
            }
        }
    }
}

#[test]
fn one_expert_may_take_everything() {
    let config = DecoderConfig { experts_per_token: 1, ..fixture::config() };
    let moe = moe(&config, FloatDType::F32);
    for positions in [3, 65] {
        let x = random([positions, config.hidden], 1);
        let indices = Tensor::<2, Int>::full([positions, 1], 3, (&gpu(), DType::I32));
        let routing = Routing { indices, weights: Tensor::ones([positions, 1], (&gpu(), DType::F32)) };
        let expected = reference::expert_mlp(TOGETHER, x.clone(), routing.clone(), &moe);
        assert_near(super::expert_mlp(Rows::Apart, &x, &routing, &moe), expected);
    }
}

#[test]
fn layers_of_any_size_and_rows_that_do_not_depend_on_each_other() {
    for (hidden, width) in [(12, 7), (64, 130), (33, 65)] {
        for dtype in dtypes() {
            let mlp = fixture::fill(GatedMlp::new(hidden, width, &Device::flex())).map(&mut Store(dtype));
            for rows in [1, 16, 17, 40, 130] {
                let x = random([rows, hidden], rows as u64);
                assert_near(super::gated_mlp(Rows::Apart, &x, &mlp), reference::gated_mlp(TOGETHER, x.clone(), &mlp));
                let [y] = super::linears(Rows::Apart, &x, [&mlp.up_proj]).expect("on a GPU");
                let [expected] = reference::linears(TOGETHER, x.clone(), [&mlp.up_proj]);
                assert_near(Some(y.clone()), expected);
                // As many rows, in other company.
                let others =
                    Tensor::cat(vec![x.clone().narrow(0, 0, 1), random([rows - 1, hidden].map(|n| n.max(1)), 99)], 0);
                let others = others.narrow(0, 0, rows);
                let [other] = super::linears(Rows::Apart, &others, [&mlp.up_proj]).expect("on a GPU");
                y.narrow(0, 0, 1).into_data().assert_eq(&other.narrow(0, 0, 1).into_data(), true);
            }
        }
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    for (positions, hidden, experts) in [(1, 12, 4), (40, 128, 64), (17, 37, 5)] {
        let (x, weight) = (random([positions, hidden], 1), random([experts, hidden], 2));
        assert_near(super::scores(&x, &weight), reference::scores(TOGETHER, x, weight));
    }
}

#[test]
fn a_decoder_settles_on_a_gpu_and_computes_what_it_computes_on_the_cpu() {
    let (cpu, gpu) = (fixture::decoder().settled(), fixture::decoder().to_device(&gpu()).settled());
    let stacked = |decoder: &Decoder| match &decoder.layers[1].mlp {
        Mlp::Moe(moe) => matches!(moe.experts, Experts::Stacked(_)),
        Mlp::Dense(_) => panic!("the second block has experts"),
    };
    assert!(stacked(&gpu) && !stacked(&cpu));
    let run = |decoder: &Decoder| {
        let mut cache = Cache::new(decoder.config(), 1, 30, &decoder.device());
        let prompt = decoder.embed(&[Segment::Text((0..20).collect())]).unwrap();
        let mut logits = fixture::floats(decoder.prefill(prompt, &mut cache, 0));
        for token in [7, 30, 2] {
            logits.extend(fixture::floats(decoder.step(&[token], &[0], &mut cache)));
        }
        logits
    };
    fixture::assert_close(&run(&gpu), &run(&cpu), 1e-4);
}

fn heads(shape: [usize; 3], seed: u64) -> Tensor<3> {
    Tensor::from_data(TensorData::new(fixture::values(shape.iter().product(), seed), shape), (&gpu(), DType::F32))
}

#[test]
fn positions_are_turned_and_written_where_their_rows_end() {
    for (count, width, lengths) in [(2, 6, [130, 1, 63, 200]), (3, 128, [1, 64, 100, 101])] {
        let (mut cache, _) = fixture::scattered_cache([count, width], &lengths, &gpu());
        // The row after the last is empty.
        let rows = [2, 4, 0];
        rows.iter().for_each(|&row| cache.reserve(row, 1));
        let places = fixture::places(rows.map(|row| cache.end(row)).into(), width, &gpu());
        let projected = [1, 2, 3].map(|seed| heads([rows.len(), count, width], seed));
        // Two caches with one buffer: the first that is written gets its own.
        let mut expected_cache = cache.clone();
        let layer = cache.layer(0);
        let queries = super::append(&projected, layer, &places).expect("on a GPU");
        let expected = reference::append(projected, expected_cache.layer(0), &places);
        fixture::assert_close(&fixture::floats(queries), &fixture::floats(expected), NEAR);
        for row in 0..5 {
            let place = cache.end(row);
            let length = place.position + usize::from(rows.contains(&row));
            let [found, expected] = [&mut cache, &mut expected_cache].map(|cache| cache.layer(0).read(&place, length));
            fixture::assert_close(&fixture::floats(found.0), &fixture::floats(expected.0), NEAR);
            fixture::assert_close(&fixture::floats(found.1), &fixture::floats(expected.1), 0.0);
        }
    }
}

#[test]
fn attention_over_the_pool_is_the_references_and_that_of_the_row_alone() {
    // Around the sizes of blocks and of parts, and vectors of a head.
    for (count, width, lengths) in [(2, 6, [130, 1, 600]), (3, 128, [128, 129, 64]), (1, 33, [5, 300, 127])] {
        let (mut cache, _) = fixture::scattered_cache([count, width], &lengths, &gpu());
        let places = fixture::last_places(&cache, &[2, 0, 1, 2], &gpu());
        let queries = heads([4, count, width], 1) * 3.0;
        let actual = super::decode_attention(&queries, cache.layer(0), &places).expect("on a GPU");
        let expected = reference::decode_attention(queries.clone(), cache.layer(0), &places.ends);
        fixture::assert_close(&fixture::floats(actual.clone()), &fixture::floats(expected), NEAR);
        for (i, row) in [2, 0, 1, 2].into_iter().enumerate() {
            let (place, query) = (fixture::last_places(&cache, &[row], &gpu()), queries.clone().narrow(0, i, 1));
            let alone = super::decode_attention(&query, cache.layer(0), &place).expect("on a GPU");
            assert_eq!(fixture::floats(alone), fixture::floats(actual.clone().narrow(0, i, 1)), "row {row}");
        }
    }
}

#[test]
fn a_pool_grows_and_shrinks_and_keeps_what_rows_hold() {
    let config = DecoderConfig { context: 4000, ..fixture::config() };
    let mut cache = Cache::new(&config, 2, 4000, &gpu());
    let (heads, width) = (config.heads, config.head_width());
    let mut written = Vec::new();
    // Positions of the first row, then blocks held for the second and allocated.
    for (step, (length, other, allocated)) in
        [(100, 0, 8), (500, 0, 16), (600, 20, 40), (100, 0, 64)].into_iter().enumerate()
    {
        cache.reserve(0, length);
        let [keys, values] = [0, 1].map(|kind| self::heads([heads, length, width], 2 * step as u64 + kind));
        let place = cache.end(0);
        cache.layer(1).write(&place, &keys, &values);
        cache.advance(0, length);
        written.push(keys);
        cache.reserve(1, other * 64);
        assert_eq!(cache.allocated_blocks(), allocated);
    }
    cache.truncate(1, 0);
    let place = cache.end(0);
    let found = cache.layer(1).read(&place, place.position).0;
    assert_eq!(fixture::floats(found), fixture::floats(Tensor::cat(written, 1)));
    cache.truncate(0, 64);
    assert_eq!(cache.allocated_blocks(), 8);
    cache.truncate(0, 0);
    assert_eq!((cache.held_blocks(), cache.allocated_blocks()), (0, 0));
    let mut limited = Cache::new(&config, 1, 4000, &gpu()).with_most_blocks(18);
    for (blocks, allocated) in [(16, 16), (17, 24)] {
        limited.reserve(0, blocks * 64);
        assert_eq!(limited.allocated_blocks(), allocated);
    }
}

#[test]
fn norms_with_and_without_a_sum_before_them() {
    for (rows, width) in [(1, 12), (3, 1280), (70, 33)] {
        let norm = fixture::fill(RmsNormConfig::new(width).with_epsilon(1e-2).init(&Device::flex()))
            .map(&mut Store(FloatDType::F32));
        let (x, added) = (random([rows, width], 1), random([rows, width], 2) * 3.0);
        let [same, y] = super::norm(&x, None, &norm).expect("on a GPU");
        assert_eq!(fixture::floats(same), fixture::floats(x.clone()));
        assert_near(Some(y), norm.forward(x.clone()));
        let [sum, y] = super::norm(&x, Some(&added), &norm).expect("on a GPU");
        assert_near(Some(sum), x.clone() + added.clone());
        assert_near(Some(y), norm.forward(x + added));
    }
}

#[test]
fn the_best_tokens_are_those_of_the_host() {
    for vocab in [1, 37, 300, 20_000] {
        let mut logits = fixture::values(8 * vocab, 5);
        let row = |row: usize| row * vocab..(row + 1) * vocab;
        // Equal logits, zeros of both signs, numbers that are none, and great ones.
        logits[row(1)].fill(2.5);
        logits[row(2)].fill(-0.0);
        logits[2 * vocab + vocab / 2] = 0.0;
        logits[3 * vocab + vocab / 3] = f32::NAN;
        logits[5 * vocab - 1] = f32::INFINITY;
        logits[row(5)].iter_mut().for_each(|logit| *logit *= 80.0);
        let best = |row: usize, logits: &[f32]| -> Vec<u32> {
            let mut ids: Vec<u32> = (0..vocab as u32).collect();
            ids.sort_by(|&a, &b| logits[row * vocab + b as usize].total_cmp(&logits[row * vocab + a as usize]));
            ids
        };
        // Nothing, the best ones, and all.
        let mut banned = vec![Vec::new(); 8];
        banned[1] = (0..vocab as u32 / 2).collect();
        banned[6] = best(6, &logits)[..vocab.div_ceil(3)].to_vec();
        banned[7] = (0..vocab as u32).collect();
        banned.iter_mut().for_each(|banned| banned.sort_unstable());
        let tensor = Tensor::from_data(TensorData::new(logits.clone(), [8, vocab]), (&gpu(), DType::F32));
        let found = fixture::floats(super::best(&tensor, &banned).expect("on a GPU"));
        for (i, found) in found.chunks(2).enumerate() {
            let found = Choice::of_kernel(found[0], found[1]);
            match (found, Sampler::Greedy.choose(&logits[row(i)], &banned[i])) {
                (Ok(Some(found)), Ok(Some(expected))) => {
                    assert_eq!(found.id, expected.id, "row {i} of {vocab}");
                    assert!(
                        (found.probability - expected.probability).abs() < 1e-5,
                        "{found:?}, expected {expected:?}"
                    );
                }
                (Ok(None), Ok(None)) | (Err(Error::NotFinite { .. }), Err(Error::NotFinite { .. })) => (),
                (found, expected) => panic!("row {i} of {vocab}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
