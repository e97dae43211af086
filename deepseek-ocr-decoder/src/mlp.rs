//! The gated feed-forward layer: dense blocks, shared experts and routed experts are all of this kind.

use crate::ops::{self, Rows};
use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{StoredLinear, StoredLinearConfig};

/// `down(silu(gate(x)) * up(x))`.
#[derive(Module, Debug)]
pub struct GatedMlp {
    /// `hidden -> width`, through SiLU.
    pub gate_proj: StoredLinear,
    /// `hidden -> width`.
    pub up_proj: StoredLinear,
    /// `width -> hidden`.
    pub down_proj: StoredLinear,
}

impl GatedMlp {
    /// A layer with random weights, drawn when they are first used.
    pub fn new(hidden: usize, width: usize, device: &Device) -> Self {
        let widen = StoredLinearConfig::without_bias(hidden, width);
        let narrow = StoredLinearConfig::without_bias(width, hidden);
        Self { gate_proj: widen.init(device), up_proj: widen.init(device), down_proj: narrow.init(device) }
    }

    /// # Shapes
    /// - `x`: `[positions, hidden]`
    /// - output: `[positions, hidden]`
    pub fn forward(&self, rows: Rows, x: Tensor<2>) -> Tensor<2> {
        ops::gated_mlp(rows, x, self)
    }
}
