//! The decoder's operations in plain tensor code: the specification, the fallback for any backend, the oracle of the tests.

use super::Rows;
use crate::{GatedMlp, LayerCache, Moe, Place, Places, Rotation, Routing};
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData, activation};
use deepseek_ocr_core::StoredLinear;

/// Scores that attention holds at once: 16 MiB, below the size from which allocators give every buffer back to the system.
const MAX_SCORES: usize = 1 << 22;

/// See [`linears`](super::linears).
pub fn linears<const N: usize>(rows: Rows, x: Tensor<2>, layers: [&StoredLinear; N]) -> [Tensor<2>; N] {
    layers.map(|layer| each(rows, x.clone(), |x| layer.forward(x)))
}

/// See [`scores`](super::scores).
pub fn scores(rows: Rows, x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let weight = weight.transpose();
    each(rows, x, |x| x.matmul(weight.clone()))
}

/// See [`choose`](super::choose).
pub fn choose(scores: Tensor<2>, chosen: usize) -> Routing {
    let probabilities = activation::softmax(scores, 1);
    let (weights, indices) = if chosen < probabilities.dims()[1] {
        probabilities.topk_with_indices(chosen, 1)
    } else {
        // Burn's top-k refuses to choose all.
        probabilities.sort_descending_with_indices(1)
    };
    Routing { indices, weights }
}

/// See [`gated_mlp`](super::gated_mlp).
pub fn gated_mlp(rows: Rows, x: Tensor<2>, mlp: &GatedMlp) -> Tensor<2> {
    let forward = |x: Tensor<2>| {
        let (gate, up) = (mlp.gate_proj.forward(x.clone()), mlp.up_proj.forward(x));
        mlp.down_proj.forward(silu_gate(gate, up))
    };
    each(rows, x, forward)
}

#[cfg(feature = "autodiff")]
use deepseek_ocr_core::ops::autodiff::silu_gate;

/// `silu(gate) * up`.
#[cfg(not(feature = "autodiff"))]
fn silu_gate(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    activation::silu(gate) * up
}

/// See [`expert_mlp`](super::expert_mlp).
pub fn expert_mlp(rows: Rows, x: Tensor<2>, routing: Routing, moe: &Moe) -> Tensor<2> {
    let ([positions, chosen], device) = (routing.weights.dims(), x.device());
    let weights = routing.weights.reshape([positions * chosen, 1]);
    let routed = group(routing.indices, moe.experts.len());
    let mut sum = gated_mlp(rows, x.clone(), &moe.shared_experts);
    for (expert, slots) in routed.into_iter().enumerate().filter(|(_, slots)| !slots.is_empty()) {
        let at = int_tensor(slots.iter().map(|slot| slot / chosen), &device);
        let slots = int_tensor(slots.into_iter(), &device);
        let y = gated_mlp(rows, x.clone().select(0, at.clone()), &moe.experts.get(expert))
            * weights.clone().select(0, slots);
        sum = sum.select_assign(0, at, y, IndexingUpdateOp::Add);
    }
    sum
}

/// For each expert, the slots of `[positions, chosen]` that it takes.
fn group(indices: Tensor<2, Int>, experts: usize) -> Vec<Vec<usize>> {
    let indices = indices.into_data().convert_dtype(DType::I64);
    let mut routed = vec![Vec::new(); experts];
    for (slot, expert) in indices.iter::<i64>().enumerate() {
        routed[expert as usize].push(slot);
    }
    routed
}

/// See [`rotate`](super::rotate).
pub fn rotate(x: Tensor<3>, Rotation { cos, sin }: &Rotation) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let (a, b) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
    let left = a.clone() * cos.clone() - b.clone() * sin.clone();
    let right = b * cos.clone() + a * sin.clone();
    Tensor::cat(vec![left, right], 2)
}

/// See [`causal_attention`](super::causal_attention).
pub fn causal_attention(queries: Tensor<3>, keys: Tensor<3>, values: Tensor<3>) -> Tensor<3> {
    let [heads, length, width] = queries.dims();
    let total = keys.dims()[1];
    let queries = queries * scale(width);
    let chunk = (MAX_SCORES / (heads * total)).clamp(1, length);
    let attend = |start: usize| {
        let count = chunk.min(length - start);
        // Position of the chunk's first query; keys after the chunk's last one are never seen.
        let first = total - length + start;
        let seen = first + count;
        let scores = queries.clone().narrow(1, start, count).matmul(keys.clone().narrow(1, 0, seen).transpose());
        let probabilities =
            activation::softmax(scores.mask_fill(later(first, count, &keys.device()), f32::NEG_INFINITY), 2);
        probabilities.matmul(values.clone().narrow(1, 0, seen))
    };
    Tensor::cat((0..length).step_by(chunk).map(attend).collect(), 1)
}

/// `[1, count, first + count]`: which keys come after the query, for queries from position `first` on.
fn later(first: usize, count: usize, device: &Device) -> Tensor<3, burn::tensor::Bool> {
    let seen = first + count;
    let queries = int_tensor(first..seen, device).reshape([1, count, 1]).expand([1, count, seen]);
    int_tensor(0..seen, device).reshape([1, 1, seen]).expand([1, count, seen]).greater(queries)
}

/// See [`append`](super::append).
pub fn append([queries, keys, values]: [Tensor<3>; 3], cache: &mut LayerCache, places: &Places) -> Tensor<3> {
    let [_, heads, width] = queries.dims();
    let (queries, keys) = (places.rotation.forward(queries), places.rotation.forward(keys));
    for (i, place) in places.ends.iter().enumerate() {
        let row = |all: &Tensor<3>| all.clone().narrow(0, i, 1).reshape([heads, 1, width]);
        cache.write(place, &row(&keys), &row(&values));
    }
    queries
}

/// See [`decode_attention`](super::decode_attention).
pub fn decode_attention(queries: Tensor<3>, cache: &LayerCache, places: &[Place]) -> Tensor<3> {
    let [_, heads, width] = queries.dims();
    let queries = queries * scale(width);
    let attend = |(i, place): (usize, &Place)| {
        let (keys, values) = cache.read(place, place.position + 1);
        let query = queries.clone().narrow(0, i, 1).reshape([heads, 1, width]);
        let probabilities = activation::softmax(query.matmul(keys.transpose()), 2);
        probabilities.matmul(values).reshape([1, heads, width])
    };
    Tensor::cat(places.iter().enumerate().map(attend).collect(), 0)
}

/// A product of several rows may add up in another order than a product of one: rows apart go through it one by one.
fn each(rows: Rows, x: Tensor<2>, f: impl Fn(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    match (rows, x.dims()[0]) {
        (Rows::Together(_), _) | (_, 0 | 1) => f(x),
        (Rows::Apart, count) => Tensor::cat((0..count).map(|row| f(x.clone().narrow(0, row, 1))).collect(), 0),
    }
}

fn scale(width: usize) -> f32 {
    (width as f32).sqrt().recip()
}

fn int_tensor(values: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = values.map(|value| value as i32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn random(shape: [usize; 3], seed: u64) -> Tensor<3> {
        let values = fixture::values(shape.iter().product(), seed);
        Tensor::<1>::from_floats(values.as_slice(), &Device::flex()).reshape(shape)
    }

    /// The definition for one query of one head.
    fn naive(query: &[f32], keys: &[f32], values: &[f32]) -> Vec<f32> {
        let width = query.len();
        let dot = |a: &[f32]| a.iter().zip(query).map(|(a, b)| a * b).sum::<f32>() / (width as f32).sqrt();
        let exps: Vec<f32> = keys.chunks(width).map(|key| dot(key).exp()).collect();
        let total: f32 = exps.iter().sum();
        let column = |i: usize| values.chunks(width).zip(&exps).map(|(v, e)| v[i] * e).sum::<f32>() / total;
        (0..width).map(column).collect()
    }

    #[test]
    fn causal_attention_equals_the_definition_from_any_offset() {
        let (heads, width, total) = (2, 4, 9);
        let (k, v) = (random([heads, total, width], 1), random([heads, total, width], 2));
        for length in [1, 4, 9] {
            let q = random([heads, length, width], 3);
            let y = fixture::floats(causal_attention(q.clone(), k.clone(), v.clone()));
            let (q, k, v) = (fixture::floats(q), fixture::floats(k.clone()), fixture::floats(v.clone()));
            for (i, (query, y)) in q.chunks(width).zip(y.chunks(width)).enumerate() {
                let (head, seen) = (i / length, total - length + i % length + 1);
                let rows = head * total * width..(head * total + seen) * width;
                fixture::assert_close(y, &naive(query, &k[rows.clone()], &v[rows]), 1e-5);
            }
        }
    }

    #[test]
    fn chunks_of_queries_join_without_a_seam() {
        // 1000 keys in 5 heads make chunks of 838 queries.
        let shape = [5, 1000, 2];
        let (q, k, v) = (random(shape, 1), random(shape, 2), random(shape, 3));
        let whole = causal_attention(q.clone(), k.clone(), v.clone());
        for at in [0, 837, 838, 999] {
            let take = |x: &Tensor<3>| x.clone().narrow(1, 0, at + 1);
            let alone = causal_attention(q.clone().narrow(1, at, 1), take(&k), take(&v));
            fixture::assert_close(&fixture::floats(whole.clone().narrow(1, at, 1)), &fixture::floats(alone), 1e-5);
        }
    }

    #[test]
    fn decode_attention_sees_its_own_row_up_to_its_own_position() {
        let (heads, width, lengths) = (2, 4, [130, 1, 600]);
        let (mut cache, written) = fixture::scattered_cache([heads, width], &lengths, &Device::flex());
        let places = [2, 0, 1].map(|row| cache.end(row)).map(|end| Place { position: end.position - 1, ..end });
        let q = random([places.len(), heads, width], 3);
        let y = fixture::floats(decode_attention(q.clone(), cache.layer(0), &places));
        for (i, (query, y)) in fixture::floats(q).chunks(width).zip(y.chunks(width)).enumerate() {
            let (row, head) = ([2, 0, 1][i / heads], i % heads);
            let span = head * lengths[row] * width..(head + 1) * lengths[row] * width;
            let [keys, values] = &written[row];
            fixture::assert_close(y, &naive(query, &keys[span.clone()], &values[span]), 1e-5);
        }
    }
}
