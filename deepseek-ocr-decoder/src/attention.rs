//! Causal self-attention over the cache; every head has its own keys and values.

use crate::{
    DecoderConfig, LayerCache, Passage, Places, Rotation,
    ops::{self, Rows},
};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{StoredLinear, StoredLinearConfig, ops::Precision};

/// Attention of one block.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// Queries.
    pub q_proj: StoredLinear,
    /// Keys.
    pub k_proj: StoredLinear,
    /// Values.
    pub v_proj: StoredLinear,
    /// From the heads back to the residual stream.
    pub o_proj: StoredLinear,
    heads: usize,
}

impl SelfAttention {
    pub(crate) fn new(config: &DecoderConfig, device: &Device) -> Self {
        let square = || StoredLinearConfig::without_bias(config.hidden, config.hidden).init(device);
        Self { q_proj: square(), k_proj: square(), v_proj: square(), o_proj: square(), heads: config.heads }
    }

    /// Appends positions to one row.
    ///
    /// # Shapes
    /// - `x`: `[length, hidden]`
    /// - output: `[passage.outputs, hidden]`
    pub fn prefill(&self, x: Tensor<2>, passage: &Passage, cache: &mut LayerCache) -> Tensor<2> {
        let ([length, hidden], Passage { place, outputs, .. }) = (x.dims(), passage);
        let heads = |y: Tensor<2>| {
            let rows = y.dims()[0];
            y.reshape([rows, self.heads, hidden / self.heads]).swap_dims(0, 1)
        };
        let [keys, values] = ops::linears(passage.rows(), x.clone(), [&self.k_proj, &self.v_proj]).map(heads);
        let keys = passage.rotation.forward(keys);
        cache.write(place, &keys, &values);

        let [queries] = ops::linears(passage.rows(), passage.last(x), [&self.q_proj]).map(heads);
        let queries = passage.rotation.last(*outputs).forward(queries);
        let (keys, values) = match place.position {
            0 => (keys, values),
            before => cache.read(place, before + length),
        };
        let y = ops::causal_attention(queries, keys, values);
        self.join(passage.rows(), y.swap_dims(0, 1).reshape([*outputs, hidden]))
    }

    /// Appends one position to each of several rows.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden]`, one row for each of `places`
    /// - output: `[rows, hidden]`
    pub fn step(&self, x: Tensor<2>, cache: &mut LayerCache, places: &Places) -> Tensor<2> {
        let [rows, hidden] = x.dims();
        let heads = |y: Tensor<2>| y.reshape([rows, self.heads, hidden / self.heads]);
        let projected = ops::linears(Rows::Apart, x, [&self.q_proj, &self.k_proj, &self.v_proj]).map(heads);
        let queries = ops::append(projected, cache, places);
        let y = ops::decode_attention(queries, cache, places);
        self.join(Rows::Apart, y.reshape([rows, hidden]))
    }

    /// Whole sequences of equal length, without a cache.
    ///
    /// # Shapes
    /// - `x`, output: `[batch, length, hidden]`
    pub fn forward(&self, x: Tensor<3>, rotation: &Rotation) -> Tensor<3> {
        let [batch, length, hidden] = x.dims();
        let (together, width) = (Rows::Together(Precision::Exact), hidden / self.heads);
        let heads = |y: Tensor<2>| {
            let y = y.reshape([batch, length, self.heads, width]).swap_dims(1, 2);
            y.reshape([batch * self.heads, length, width])
        };
        let x = x.reshape([batch * length, hidden]);
        let [queries, keys, values] = ops::linears(together, x, [&self.q_proj, &self.k_proj, &self.v_proj]).map(heads);
        let y = ops::causal_attention(rotation.forward(queries), rotation.forward(keys), values);
        let y = y.reshape([batch, self.heads, length, width]).swap_dims(1, 2);
        self.join(together, y.reshape([batch * length, hidden])).reshape([batch, length, hidden])
    }

    fn join(&self, rows: Rows, y: Tensor<2>) -> Tensor<2> {
        let [y] = ops::linears(rows, y, [&self.o_proj]);
        y
    }
}
