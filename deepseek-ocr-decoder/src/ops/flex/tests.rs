//! Kernels against the reference, over odd shapes and every instruction set.

use super::{attention, experts, vector};
use crate::{
    GatedMlp, Moe, Place, Rope,
    cache::{BLOCK, SLAB},
    fixture,
    ops::{self, Rows, reference},
};
use burn::tensor::{DType, Device, Tensor, TensorData};
use deepseek_ocr_core::{
    StoredLinear, StoredLinearConfig,
    ops::{
        Precision,
        flex::{Isa, Kernel, Matrix, Weights},
    },
};

fn available() -> impl Iterator<Item = Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let values = fixture::values(shape.iter().product(), seed);
    Tensor::from_data(TensorData::new(values, shape), (&Device::flex(), DType::F32))
}

fn assert_close<const D: usize>(actual: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(actual.dims(), expected.dims());
    fixture::assert_close(&fixture::floats(actual), &fixture::floats(expected), 2e-5);
}

fn layer(inputs: usize, outputs: usize) -> StoredLinear {
    fixture::fill(StoredLinearConfig::without_bias(inputs, outputs).init(&Device::flex()))
}

#[test]
fn causal_attention_on_every_instruction_set() {
    // Around the sizes of blocks of keys, tiles of rows and queries of a task.
    for (heads, length, total, width) in [
        (2, 1, 1, 4),
        (1, 3, 3, 6),
        (3, 5, 70, 16),
        (2, 64, 64, 8),
        (1, 131, 131, 128),
        (2, 67, 300, 20),
        (1, 65, 129, 70),
    ] {
        let queries = random([heads, length, width], 1);
        let (keys, values) = (random([heads, total, width], 2), random([heads, total, width], 3));
        let expected = reference::causal_attention(queries.clone() * 3.0, keys.clone(), values.clone());
        assert_close(ops::causal_attention(queries.clone() * 3.0, keys.clone(), values.clone()), expected.clone());
        let operands = [queries * 3.0, keys, values].map(fixture::floats);
        let operands = [0, 1, 2].map(|i: usize| operands[i].as_slice());
        let expected = fixture::floats(expected);
        for isa in available() {
            let mut y = vec![f32::NAN; expected.len()];
            attention::Causal { heads, length, total, width }.attend(isa, operands, &mut y);
            fixture::assert_close(&y, &expected, 2e-5);
        }
    }
}

#[test]
fn decode_attention_on_every_instruction_set() {
    // Around the sizes of blocks, and of vectors of a head.
    for (heads, longest, width) in [(2, 6, 4), (3, 65, 33), (1, 300, 128), (2, 700, 200), (2, 128, 130)] {
        let (mut cache, _) =
            fixture::scattered_cache([heads, width], &[1 + longest / 2, longest, 1, longest - 1], &Device::flex());
        let places = fixture::last_places(&cache, &[3, 0, 2, 1], &Device::flex());
        let queries = random([places.ends.len(), heads, width], 1) * 3.0;
        let layer = cache.layer(0);
        let expected = reference::decode_attention(queries.clone(), layer, &places.ends);
        assert_close(ops::decode_attention(queries.clone(), layer, &places), expected.clone());
        let (queries, expected) = (fixture::floats(queries), fixture::floats(expected));
        let [keys, values] = layer.slabs().map(|slabs| slabs.iter().cloned().map(fixture::floats).collect::<Vec<_>>());
        let slices = |slabs| Vec::<f32>::as_slice(slabs);
        let (keys, values): (Vec<_>, Vec<_>) = (keys.iter().map(slices).collect(), values.iter().map(slices).collect());
        for isa in available() {
            let mut y = vec![f32::NAN; expected.len()];
            let decode = attention::Decode { heads, width, keys: &keys, values: &values };
            decode.attend(isa, &queries, &places.ends, &mut y);
            fixture::assert_close(&y, &expected, 2e-5);
        }
    }
}

#[test]
fn attention_to_what_is_not_a_number_gives_none() {
    for isa in available() {
        let queries = vec![1.0; 70 * 4];
        let mut keys = queries.clone();
        keys[5 * 4] = f32::NAN;
        let mut y = vec![0.0; 70 * 4];
        let shape = attention::Causal { heads: 1, length: 70, total: 70, width: 4 };
        shape.attend(isa, [&queries, &keys, &queries], &mut y);
        assert!(y[..20].iter().all(|y| (y - 1.0).abs() < 1e-6), "earlier positions do not see it: {isa:?}");
        assert!(y[20..].iter().all(|y| y.is_nan()), "{isa:?}");
        let slab = |row: &[f32]| [row, &vec![0.0; SLAB * BLOCK * 4 - row.len()]].concat();
        let (keys, values) = (slab(&keys), slab(&queries));
        let decode = attention::Decode { heads: 1, width: 4, keys: &[&keys], values: &[&values] };
        decode.attend(isa, &queries[..4], &[Place { position: 69, blocks: vec![0, 1].into() }], &mut y[..4]);
        assert!(y[..4].iter().all(|y| y.is_nan()), "{isa:?}");
    }
}

#[test]
fn rotation_of_views_sequences_and_rows() {
    let rope = Rope::new(40, 10, 100.0, &Device::flex());
    for (heads, length) in [(1, 1), (3, 7), (40, 33)] {
        let x = random([length, heads, 10], 5);
        let rotation = rope.sequence(4, length);
        let view = x.clone().swap_dims(0, 1);
        assert_close(ops::rotate(view.clone(), &rotation), reference::rotate(view.clone(), &rotation));
        let (last, view) = (rotation.last(1), view.narrow(1, length - 1, 1));
        assert_close(ops::rotate(view.clone(), &last), reference::rotate(view, &last));
        let rotation = rope.batch(&(0..length).map(|row| row * 5 % 39).collect::<Vec<_>>());
        assert_close(ops::rotate(x.clone(), &rotation), reference::rotate(x, &rotation));
    }
}

#[test]
fn layers_mixtures_and_scores_equal_the_reference_in_each_way() {
    let config = crate::DecoderConfig { experts: 5, experts_per_token: 3, ..fixture::config() };
    let moe = fixture::fill(Moe::new(&config, &Device::flex()));
    let mlp = fixture::fill(GatedMlp::new(config.hidden, 45, &Device::flex()));
    for count in [1, 2, 7, 40] {
        let x = random([count, config.hidden], count as u64);
        for rows in [Rows::Together(Precision::Exact), Rows::Apart] {
            let (first, second) = (layer(config.hidden, 33), layer(config.hidden, 2));
            let expected = reference::linears(rows, x.clone(), [&first, &second]);
            for (y, expected) in ops::linears(rows, x.clone(), [&first, &second]).into_iter().zip(expected) {
                assert_close(y, expected);
            }
            let weight = random([6, config.hidden], 9);
            let expected = reference::scores(rows, x.clone(), weight.clone());
            assert_close(ops::scores(rows, x.clone(), weight), expected);
            assert_close(ops::gated_mlp(rows, x.clone(), &mlp), reference::gated_mlp(rows, x.clone(), &mlp));
            let routing = moe.gate.forward(rows, x.clone());
            let expected = reference::expert_mlp(rows, x.clone(), routing.clone(), &moe);
            assert_close(ops::expert_mlp(rows, x.clone(), routing, &moe), expected);
        }
    }
}

#[test]
fn a_row_apart_is_the_same_to_the_bit_in_every_company() {
    let config = crate::DecoderConfig { hidden: 70, expert_width: 41, ..fixture::config() };
    let moe = fixture::fill(Moe::new(&config, &Device::flex()));
    let all = random([33, config.hidden], 4);
    let forward = |x: Tensor<2>| fixture::floats(moe.forward(Rows::Apart, x));
    let alone: Vec<f32> = (0..33).flat_map(|row| forward(all.clone().narrow(0, row, 1))).collect();
    for count in 2..=33 {
        let together = forward(all.clone().narrow(0, 0, count));
        assert_eq!(together, alone[..count * config.hidden], "{count} rows");
    }
}

#[test]
fn experts_on_every_instruction_set() {
    let (hidden, width, positions) = (20, 37, 9);
    let numbers = |seed| fixture::values(hidden * width, seed);
    let matrices: Vec<_> = (0..9).map(numbers).collect();
    let gated = |at: usize| experts::Gated {
        gate: Matrix::new(Weights::F32(&matrices[at]), width, hidden),
        up: Matrix::new(Weights::F32(&matrices[at + 1]), width, hidden),
        down: Matrix::new(Weights::F32(&matrices[at + 2]), hidden, width),
    };
    let all: Vec<_> = (0..9).map(|position| (position, -1.0)).collect();
    let routed = [
        experts::Routed { expert: gated(3), slots: &[(0, 0.5), (8, 2.0)] },
        experts::Routed { expert: gated(6), slots: &all },
    ];
    let x = fixture::values(positions * hidden, 77);
    let sums: Vec<Vec<f32>> = available()
        .map(|isa| {
            let kernel = Kernel::on(isa, Precision::Exact).unwrap();
            let mut y = vec![f32::NAN; x.len()];
            experts::mix(kernel, &x, &gated(0), &routed, &mut y);
            y
        })
        .collect();
    let alone = |gated: experts::Gated<'_>, x: &[f32]| {
        let product = |matrix: Matrix<'_>, x: &[f32]| -> Vec<f32> {
            let Weights::F32(w) = matrix.weights() else { unreachable!() };
            w.chunks(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        let (gate, up) = (product(gated.gate, x), product(gated.up, x));
        let inner: Vec<f32> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
        product(gated.down, &inner)
    };
    let mut expected: Vec<f32> = x.chunks(hidden).flat_map(|x| alone(gated(0), x)).collect();
    for routed in &routed {
        for &(position, factor) in routed.slots {
            let place = position * hidden..(position + 1) * hidden;
            let y = alone(routed.expert, &x[place.clone()]);
            let mut sum = expected[place.clone()].to_vec();
            vector::run(Isa::Portable, vector::AddScaled { y: &mut sum, factor, x: &y });
            expected[place].copy_from_slice(&sum);
        }
    }
    sums.iter().for_each(|y| fixture::assert_close(y, &expected, 1e-4));
}
