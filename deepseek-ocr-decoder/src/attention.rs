//! Causal self-attention over the cache; every head has its own keys and values.

use crate::{DecoderConfig, LayerCache, Place, Rotation, ops};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{StoredLinear, StoredLinearConfig};

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

    /// Appends positions to one row, from `place` on.
    ///
    /// # Shapes
    /// - `x`: `[length, hidden]`
    /// - output: `[length, hidden]`
    pub fn prefill(&self, x: Tensor<2>, rotation: &Rotation, cache: &mut LayerCache, place: Place) -> Tensor<2> {
        let [length, hidden] = x.dims();
        let heads = |y: Tensor<2>| y.reshape([length, self.heads, hidden / self.heads]).swap_dims(0, 1);
        let queries = rotation.forward(heads(self.q_proj.forward(x.clone())));
        let keys = rotation.forward(heads(self.k_proj.forward(x.clone())));
        cache.write(place, keys, heads(self.v_proj.forward(x)));

        let (keys, values) = cache.read(place.row, place.position + length);
        let y = ops::causal_attention(queries, keys, values);
        self.o_proj.forward(y.swap_dims(0, 1).reshape([length, hidden]))
    }

    /// Appends one position to each of several rows.
    ///
    /// # Shapes
    /// - `x`: `[rows, hidden]`, one row for each of `places`
    /// - output: `[rows, hidden]`
    pub fn step(&self, x: Tensor<2>, rotation: &Rotation, cache: &mut LayerCache, places: &[Place]) -> Tensor<2> {
        let [rows, hidden] = x.dims();
        let width = hidden / self.heads;
        let project =
            |layer: &StoredLinear| ops::row_by_row(x.clone(), |x| layer.forward(x)).reshape([rows, self.heads, width]);
        let queries = rotation.forward(project(&self.q_proj));
        let keys = rotation.forward(project(&self.k_proj));
        let values = project(&self.v_proj);
        for (i, &place) in places.iter().enumerate() {
            let row = |all: &Tensor<3>| all.clone().narrow(0, i, 1).reshape([self.heads, 1, width]);
            cache.write(place, row(&keys), row(&values));
        }

        let y = ops::decode_attention(queries, cache.keys.clone(), cache.values.clone(), places);
        ops::row_by_row(y.reshape([rows, hidden]), |y| self.o_proj.forward(y))
    }
}
