//! CLIP-L (section 3.2.1 of the paper) without its patch embedding: it reads the compressor's features instead.

use crate::{
    ops::{self, Activation},
    position,
};
use burn::{
    module::{Module, Param},
    nn::{Initializer, LayerNorm, LayerNormConfig},
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{StoredLinear, StoredLinearConfig, ops::Precision};

/// Hidden width of an MLP over the width of the tower (a constant of the released code).
const MLP_RATIO: usize = 4;

/// Of every normalisation in this tower (a constant of the released code).
const NORM_EPSILON: f64 = 1e-5;

/// Spread of the random embeddings, as in the released code's towers.
const EMBEDDINGS: Initializer = Initializer::Normal { mean: 0.0, std: 0.02 };

/// Dimensions of [`Clip`]. The default is the released model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClipConfig {
    /// Width of a token.
    pub width: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads of a layer.
    pub heads: usize,
    /// Tokens along the side that the position table is made for: image size over patch size.
    pub grid: usize,
}

/// Compressed features to features that know the whole view.
#[derive(Module, Debug)]
pub struct Clip {
    /// `[width]`; the token in front of all others.
    pub class_embedding: Param<Tensor<1>>,
    /// `[1 + grid * grid, width]`; the class token's row first.
    pub position_embedding: Param<Tensor<2>>,
    /// Between embedding and layers.
    pub pre_layernorm: LayerNorm,
    /// The transformer. No norm follows it.
    pub layers: Vec<ClipLayer>,
}

/// One transformer layer.
#[derive(Module, Debug)]
pub struct ClipLayer {
    layer_norm1: LayerNorm,
    self_attn: ClipAttention,
    layer_norm2: LayerNorm,
    mlp: ClipMlp,
}

/// Plain attention over all tokens.
#[derive(Module, Debug)]
pub struct ClipAttention {
    qkv_proj: StoredLinear,
    out_proj: StoredLinear,
    heads: usize,
    #[module(skip)]
    precision: Precision,
}

/// The feed-forward half of a layer.
#[derive(Module, Debug)]
pub struct ClipMlp {
    fc1: StoredLinear,
    fc2: StoredLinear,
    #[module(skip)]
    precision: Precision,
}

impl ClipConfig {
    /// A tower of these dimensions.
    pub fn new(width: usize, layers: usize, heads: usize, grid: usize) -> Self {
        Self { width, layers, heads, grid }
    }

    pub(crate) fn init(&self, device: &Device) -> Clip {
        Clip {
            class_embedding: EMBEDDINGS.init([self.width], device),
            position_embedding: EMBEDDINGS.init([1 + self.grid * self.grid, self.width], device),
            pre_layernorm: norm(self.width, device),
            layers: (0..self.layers).map(|_| self.layer(device)).collect(),
        }
    }

    fn layer(&self, device: &Device) -> ClipLayer {
        let Self { width, heads, .. } = *self;
        let hidden = MLP_RATIO * width;
        ClipLayer {
            layer_norm1: norm(width, device),
            self_attn: ClipAttention {
                qkv_proj: StoredLinearConfig::new(width, 3 * width).init(device),
                out_proj: StoredLinearConfig::new(width, width).init(device),
                heads,
                precision: Precision::default(),
            },
            layer_norm2: norm(width, device),
            mlp: ClipMlp {
                fc1: StoredLinearConfig::new(width, hidden).init(device),
                fc2: StoredLinearConfig::new(hidden, width).init(device),
                precision: Precision::default(),
            },
        }
    }
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self::new(1024, 24, 16, 16)
    }
}

impl Clip {
    /// # Shapes
    /// - `features`: `[views, width, q, q]`
    /// - output: `[views, 1 + q * q, width]`, the class token first
    pub fn forward(&self, features: Tensor<4>) -> Tensor<3> {
        let tokens = self.pre_layernorm.forward(self.embed(features));
        self.layers.iter().fold(tokens, |x, layer| layer.forward(x))
    }

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        for layer in &mut self.layers {
            layer.self_attn.precision = precision;
            layer.mlp.precision = precision;
        }
    }

    /// The class token and the features, with their positions: what `pre_layernorm` reads.
    ///
    /// # Shapes
    /// - `features`: `[views, width, q, q]`
    /// - output: `[views, 1 + q * q, width]`
    pub fn embed(&self, features: Tensor<4>) -> Tensor<3> {
        let q = features.dims()[2];
        self.join(features, self.positions(q))
    }

    /// [`forward`](Self::forward) for a part of a view: positions are those of the whole one. See
    /// [`Encoder::forward_part`](crate::Encoder::forward_part).
    ///
    /// # Shapes
    /// - `features`: `[views, width, rows, columns]`, `at` so many rows and columns from the top left
    /// - output: `[views, 1 + rows * columns, width]`
    pub fn forward_part(&self, features: Tensor<4>, at: [usize; 2]) -> Tensor<3> {
        let [_, width, rows, columns] = features.dims();
        let (class, grid) = self.table();
        let grid = position::cut_grid(grid, at, [rows, columns]).reshape([rows * columns, width]);
        let tokens = self.pre_layernorm.forward(self.join(features, Tensor::cat(vec![class, grid], 0)));
        self.layers.iter().fold(tokens, |x, layer| layer.forward(x))
    }

    fn join(&self, features: Tensor<4>, positions: Tensor<2>) -> Tensor<3> {
        let [views, width, rows, columns] = features.dims();
        let tokens = features.reshape([views, width, rows * columns]).swap_dims(1, 2);
        let class = self.class_embedding.val().expand([views, 1, width]);
        Tensor::cat(vec![class, tokens], 1) + positions.unsqueeze()
    }

    /// `[1 + q * q, width]`: only the grid is resampled, the class token has no place in it.
    fn positions(&self, q: usize) -> Tensor<2> {
        let (class, grid) = self.table();
        let width = class.dims()[1];
        let grid = position::resize_grid(grid, q).reshape([q * q, width]);
        Tensor::cat(vec![class, grid], 0)
    }

    /// The class token's position, `[1, width]`, and those of the grid, `[1, grid, grid, width]`.
    fn table(&self) -> (Tensor<2>, Tensor<4>) {
        let table = self.position_embedding.val();
        let [rows, width] = table.dims();
        let native = (rows - 1).isqrt();
        let grid = table.clone().narrow(0, 1, rows - 1).reshape([1, native, native, width]);
        (table.narrow(0, 0, 1), grid)
    }
}

impl ClipLayer {
    /// # Shapes
    /// - `x`, output: `[views, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.self_attn.forward(self.layer_norm1.forward(x));
        x.clone() + self.mlp.forward(self.layer_norm2.forward(x))
    }
}

impl ClipAttention {
    /// # Shapes
    /// - `x`, output: `[views, tokens, width]`
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let qkv = ops::linear(self.precision, &self.qkv_proj, x);
        ops::linear(self.precision, &self.out_proj, ops::attention(self.precision, qkv, self.heads))
    }
}

impl ClipMlp {
    /// # Shapes
    /// - `x`, output: `[.., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::mlp(self.precision, [&self.fc1, &self.fc2], Activation::QuickGelu, x)
    }
}

fn norm(width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(NORM_EPSILON).init(device)
}
