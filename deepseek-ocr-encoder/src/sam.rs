//! SAM ViT-B (section 3.2.1 of the paper): patches of 16 x 16 pixels, attention in windows, a few blocks over all patches.

use crate::{
    ops::{self, Activation},
    position,
};
use burn::{
    module::{Module, Param},
    nn::{
        Initializer, LayerNorm, LayerNormConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor},
};
use deepseek_ocr_core::{StoredLinear, StoredLinearConfig, ops::Precision};

/// Side of a patch in pixels (a constant of the released code).
pub(crate) const PATCH_SIDE: usize = 16;

/// Patches along the side of what becomes one token.
const TOKEN_PATCHES: usize = 4;

/// Side of an attention window in patches (a constant of the released code).
const WINDOW_SIDE: usize = 14;

/// Hidden width of an MLP over the width of the tower (a constant of the released code).
const MLP_RATIO: usize = 4;

/// Of every normalisation in this tower, the neck's included (a constant of the released code).
const NORM_EPSILON: f64 = 1e-6;

/// Spread of the random position tables, as in the released code's towers.
const POSITIONS: Initializer = Initializer::Normal { mean: 0.0, std: 0.02 };

/// Dimensions of [`Sam`]. The default is the released model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SamConfig {
    /// Width of a patch.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads of a block.
    pub heads: usize,
    /// Blocks that attend over all patches; the others attend within windows.
    pub global_blocks: Vec<usize>,
    /// Width of the tower's output.
    pub neck_channels: usize,
    /// Patches along the side that the position tables are made for: image size over 16.
    pub grid: usize,
}

/// Pixels to patch features.
#[derive(Module, Debug)]
pub struct Sam {
    /// 16 x 16 pixels to one patch.
    pub patch_embed: Conv2d,
    /// `[1, grid, grid, width]`.
    pub pos_embed: Param<Tensor<4>>,
    /// The transformer.
    pub blocks: Vec<SamBlock>,
    /// To the tower's output width.
    pub neck: Neck,
}

/// One transformer block.
#[derive(Module, Debug)]
pub struct SamBlock {
    norm1: LayerNorm,
    attn: SamAttention,
    norm2: LayerNorm,
    mlp: SamMlp,
}

/// How far a patch sees.
#[derive(Debug, Clone, Copy)]
enum Span {
    /// Within its window of this side.
    Window(usize),
    /// Over the whole view.
    View,
}

/// Attention with decomposed relative positions.
#[derive(Module, Debug)]
pub struct SamAttention {
    qkv: StoredLinear,
    proj: StoredLinear,
    rel_pos_h: Param<Tensor<2>>,
    rel_pos_w: Param<Tensor<2>>,
    #[module(skip)]
    span: Span,
    #[module(skip)]
    precision: Precision,
}

/// The feed-forward half of a block.
#[derive(Module, Debug)]
pub struct SamMlp {
    lin1: StoredLinear,
    lin2: StoredLinear,
    #[module(skip)]
    precision: Precision,
}

/// Two convolutions, each normalised over channels.
#[derive(Module, Debug)]
pub struct Neck {
    conv1: Conv2d,
    norm1: LayerNorm,
    conv2: Conv2d,
    norm2: LayerNorm,
}

impl SamConfig {
    /// A tower with the released neck of 256 channels.
    pub fn new(width: usize, layers: usize, heads: usize, global_blocks: Vec<usize>, grid: usize) -> Self {
        let neck_channels = 256;
        Self { width, layers, heads, global_blocks, neck_channels, grid }
    }

    /// With another output width.
    pub fn with_neck_channels(mut self, channels: usize) -> Self {
        self.neck_channels = channels;
        self
    }

    pub(crate) fn init(&self, device: &Device) -> Sam {
        let patch = [PATCH_SIDE; 2];
        Sam {
            patch_embed: Conv2dConfig::new([3, self.width], patch).with_stride(patch).init(device),
            pos_embed: POSITIONS.init([1, self.grid, self.grid, self.width], device),
            blocks: (0..self.layers).map(|index| self.block(index, device)).collect(),
            neck: Neck::new(self.width, self.neck_channels, device),
        }
    }

    fn block(&self, index: usize, device: &Device) -> SamBlock {
        let Self { width, heads, grid, .. } = *self;
        let (span, side) = match self.global_blocks.contains(&index) {
            true => (Span::View, grid),
            false => (Span::Window(WINDOW_SIDE), WINDOW_SIDE),
        };
        let table = [2 * side - 1, width / heads];
        let hidden = MLP_RATIO * width;
        SamBlock {
            norm1: norm(width, device),
            attn: SamAttention {
                qkv: StoredLinearConfig::new(width, 3 * width).init(device),
                proj: StoredLinearConfig::new(width, width).init(device),
                rel_pos_h: POSITIONS.init(table, device),
                rel_pos_w: POSITIONS.init(table, device),
                span,
                precision: Precision::default(),
            },
            norm2: norm(width, device),
            mlp: SamMlp {
                lin1: StoredLinearConfig::new(width, hidden).init(device),
                lin2: StoredLinearConfig::new(hidden, width).init(device),
                precision: Precision::default(),
            },
        }
    }
}

impl Default for SamConfig {
    fn default() -> Self {
        Self::new(768, 12, 12, vec![2, 5, 8, 11], 64)
    }
}

impl Sam {
    /// # Shapes
    /// - `pixels`: `[views, 3, side, side]`
    /// - output: `[views, neck, g, g]` with `g = side / 16`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<4> {
        let patches = self.embed(pixels);
        let patches = self.blocks.iter().fold(patches, |x, block| block.forward(x));
        self.neck.forward(patches)
    }

    pub(crate) fn set_precision(&mut self, precision: Precision) {
        for block in &mut self.blocks {
            block.attn.precision = precision;
            block.mlp.precision = precision;
        }
    }

    /// Patches with their positions: what the first block reads.
    ///
    /// # Shapes
    /// - `pixels`: `[views, 3, side, side]`
    /// - output: `[views, g, g, width]` with `g = side / 16`
    pub fn embed(&self, pixels: Tensor<4>) -> Tensor<4> {
        let patches = self.patch_embed.forward(pixels).permute([0, 2, 3, 1]);
        let grid = patches.dims()[1];
        patches + position::resize_grid(self.pos_embed.val(), grid)
    }

    /// What [`neck`](Self::neck) reads of a part of a view: positions are those of the whole one, and are not resampled. See
    /// [`Encoder::forward_part`](crate::Encoder::forward_part).
    ///
    /// # Shapes
    /// - `pixels`: `[views, 3, height, width]`, `at` rows and columns of 64 pixels from the top left
    /// - output: `[views, height / 16, width / 16, width]`
    pub fn patches_of_part(&self, pixels: Tensor<4>, at: [usize; 2]) -> Tensor<4> {
        let patches = self.patch_embed.forward(pixels).permute([0, 2, 3, 1]);
        let [_, rows, columns, _] = patches.dims();
        let first = at.map(|tokens| tokens * TOKEN_PATCHES);
        let patches = patches + position::cut_grid(self.pos_embed.val(), first, [rows, columns]);
        self.blocks.iter().fold(patches, |x, block| block.forward_part(x))
    }
}

impl SamBlock {
    /// # Shapes
    /// - `x`, output: `[views, g, g, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }

    /// The same for a part of a view.
    ///
    /// # Shapes
    /// - `x`, output: `[views, rows, columns, width]`
    pub fn forward_part(&self, x: Tensor<4>) -> Tensor<4> {
        let x = x.clone() + self.attn.forward_part(self.norm1.forward(x));
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
}

impl SamAttention {
    /// # Shapes
    /// - `x`, output: `[views, g, g, width]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let side = match self.span {
            Span::Window(side) => side,
            Span::View => x.dims()[1],
        };
        let offsets = 2 * side - 1;
        let tables = [&self.rel_pos_h, &self.rel_pos_w].map(|table| position::resize_line(table.val(), offsets));
        self.attend(x, tables)
    }

    /// The same for a part of a view: offsets are those of the whole one.
    ///
    /// # Shapes
    /// - `x`, output: `[views, rows, columns, width]`
    pub fn forward_part(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, rows, columns, _] = x.dims();
        let sides = match self.span {
            Span::Window(side) => [side; 2],
            Span::View => [rows, columns],
        };
        let tables =
            [position::cut_line(self.rel_pos_h.val(), sides[0]), position::cut_line(self.rel_pos_w.val(), sides[1])];
        self.attend(x, tables)
    }

    fn attend(&self, x: Tensor<4>, tables: [Tensor<2>; 2]) -> Tensor<4> {
        let x = ops::rel_pos_attention(self.precision, x, &self.qkv, tables);
        ops::linear(self.precision, &self.proj, x)
    }
}

impl SamMlp {
    /// # Shapes
    /// - `x`, output: `[.., width]`
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        ops::mlp(self.precision, [&self.lin1, &self.lin2], Activation::GeluErf, x)
    }
}

impl Neck {
    fn new(width: usize, channels: usize, device: &Device) -> Self {
        let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
        Self {
            conv1: Conv2dConfig::new([width, channels], [1, 1]).with_bias(false).init(device),
            norm1: norm(channels, device),
            conv2: Conv2dConfig::new([channels; 2], [3, 3]).with_padding(padding).with_bias(false).init(device),
            norm2: norm(channels, device),
        }
    }

    /// # Shapes
    /// - `x`: `[views, g, g, width]`
    /// - output: `[views, channels, g, g]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.conv1.forward(x.permute([0, 3, 1, 2]));
        let x = over_channels(&self.norm1, x);
        over_channels(&self.norm2, self.conv2.forward(x))
    }
}

/// Normalises each pixel over its channels.
fn over_channels(norm: &LayerNorm, x: Tensor<4>) -> Tensor<4> {
    norm.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])
}

fn norm(width: usize, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(NORM_EPSILON).init(device)
}
