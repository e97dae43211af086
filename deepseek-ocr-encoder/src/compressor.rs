//! The compressor (section 3.2.1 of the paper): two strided convolutions make one token of 16 patches, with nothing between.

use burn::{
    module::Module,
    nn::{
        PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Device, Tensor},
};

/// Dimensions of [`Compressor`]. The default is the released model.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CompressorConfig {
    /// Channels after each convolution.
    pub channels: [usize; 2],
}

/// Sixteen patch features to one.
#[derive(Module, Debug)]
pub struct Compressor {
    /// Halves the grid.
    pub net_2: Conv2d,
    /// Halves it again.
    pub net_3: Conv2d,
}

impl CompressorConfig {
    /// Two convolutions that give these channels.
    pub fn new(channels: [usize; 2]) -> Self {
        Self { channels }
    }

    pub(crate) fn init(&self, inputs: usize, device: &Device) -> Compressor {
        let [middle, outputs] = self.channels;
        let halve = |from, to| {
            Conv2dConfig::new([from, to], [3, 3])
                .with_stride([2, 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .with_bias(false)
                .init(device)
        };
        Compressor { net_2: halve(inputs, middle), net_3: halve(middle, outputs) }
    }
}

impl Default for CompressorConfig {
    fn default() -> Self {
        Self::new([512, 1024])
    }
}

impl Compressor {
    /// # Shapes
    /// - `x`: `[views, neck, g, g]`
    /// - output: `[views, channels, g / 4, g / 4]`
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.net_3.forward(self.net_2.forward(x))
    }
}
