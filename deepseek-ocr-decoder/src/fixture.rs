//! Generated models and numbers for the unit tests.

use crate::{Cache, Decoder, DecoderConfig, Place, Places, Rope, ops};
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor, TensorData},
};

/// Small odd dimensions, one dense block and two mixtures.
pub(crate) fn config() -> DecoderConfig {
    DecoderConfig {
        vocab: 37,
        hidden: 12,
        layers: 3,
        heads: 2,
        dense_width: 20,
        dense_layers: 1,
        experts: 4,
        experts_per_token: 2,
        expert_width: 7,
        shared_width: 9,
        context: 48,
        rms_eps: 1e-6,
        rope_theta: 10_000.0,
    }
}

/// A decoder whose weights are the same in every run.
pub(crate) fn decoder() -> Decoder {
    fill(config().init(&Device::flex()))
}

/// Replaces all weights by generated ones.
pub(crate) fn fill<M: Module>(module: M) -> M {
    module.map(&mut Fill { seed: 0 })
}

/// Numbers in -1..1.
pub(crate) fn values(count: usize, seed: u64) -> Vec<f32> {
    // SplitMix64: any generator will do here.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..count).map(|_| (next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0).collect()
}

pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert_dtype(DType::F32).try_to_vec().unwrap()
}

/// One layer's cache with rows of these lengths, whose blocks lie in no order; and keys and values of each row, `[heads, length,
/// width]`.
pub(crate) fn scattered_cache(
    [heads, width]: [usize; 2],
    lengths: &[usize],
    device: &Device,
) -> (Cache, Vec<[Vec<f32>; 2]>) {
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let config = DecoderConfig { layers: 1, heads, hidden: heads * width, context: longest, ..config() };
    let mut cache = Cache::new(&config, lengths.len() + 1, longest, device);
    // Rows grow in turns, after one that leaves holes behind.
    cache.reserve(lengths.len(), longest.div_ceil(2));
    let mut room = 0;
    while room < longest {
        room += 1 + room / 2;
        for (row, &length) in lengths.iter().enumerate().rev() {
            cache.reserve(row, room.min(length));
        }
        cache.truncate(lengths.len(), 0);
    }
    let write = |(row, &length): (usize, &usize)| {
        let written = [0, 1].map(|kind| values(heads * length * width, 50 + 2 * row as u64 + kind));
        let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, device).reshape([heads, length, width]);
        let place = cache.end(row);
        cache.layer(0).write(&place, &tensor(&written[0]), &tensor(&written[1]));
        cache.advance(row, length);
        written
    };
    let written = lengths.iter().enumerate().map(write).collect();
    (cache, written)
}

/// The last positions of some rows, as if they had just been written.
pub(crate) fn last_places(cache: &Cache, rows: &[usize], device: &Device) -> Places {
    let last = |&row: &usize| {
        let end = cache.end(row);
        Place { position: end.position - 1, ..end }
    };
    places(rows.iter().map(last).collect(), 2, device)
}

/// Places with the turns of heads of this even width.
pub(crate) fn places(ends: Vec<Place>, width: usize, device: &Device) -> Places {
    let longest = ends.iter().map(|end| end.position + 1).max().unwrap_or(0);
    Places::new(ends, &Rope::new(longest, width, 100.0, device), ops::takes_pools(device).then_some(device))
}

#[track_caller]
pub(crate) fn assert_close(actual: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * (1.0 + e.abs()), "at {i}: {a}, expected {e}");
    }
}

struct Fill {
    seed: u64,
}

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.seed += 1;
        let shape = param.lazy_shape();
        let scale = if D == 1 { 1.0 } else { 2.0 / (shape[D - 1] as f32).sqrt() };
        let values: Vec<f32> = values(shape.num_elements(), self.seed).into_iter().map(|v| v * scale).collect();
        let device = param.lazy_device();
        Param::initialized(param.id, Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32)))
    }
}
