//! The whole encoder (section 3.2 of the paper). Start reading here: [`Encoder::forward`] is four lines.

use crate::{Clip, ClipConfig, Compressor, CompressorConfig, Layout, Projector, Sam, SamConfig, sam::PATCH_SIDE};
use burn::{
    module::Module,
    tensor::{DType, Device, Tensor, TensorData},
};
use deepseek_ocr_core::{Names, View, Views, VisionTokens, ops::Precision};
use std::collections::BTreeMap;

/// Patches that go through SAM in one call: six tiles of 640, two page views of 1024 or one of 1280.
///
/// The released tower's features take 3 KiB a patch in f32, so that no buffer of a call on the CPU passes 32 MB: allocators give
/// larger ones back to the system at once, and then every operation pays for fresh pages.
const PATCHES_PER_CALL: usize = 10_240;

/// Dimensions of an [`Encoder`], and how it computes. The default is the released model with exact products.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EncoderConfig {
    /// The tower that sees pixels.
    pub sam: SamConfig,
    /// The convolutions between the towers.
    pub compressor: CompressorConfig,
    /// The tower that sees compressed tokens.
    pub clip: ClipConfig,
    /// Width of a vision token: the decoder's hidden size.
    pub hidden: usize,
    /// What the towers' products may round.
    pub precision: Precision,
}

/// Square views in, vision tokens out.
#[derive(Module, Debug)]
pub struct Encoder {
    /// Pixels to patch features.
    pub sam: Sam,
    /// Sixteen patch features to one.
    pub compressor: Compressor,
    /// Compressed features to features that know the whole view.
    pub clip: Clip,
    /// Both features to the decoder's width.
    pub projector: Projector,
    /// The order in which the decoder reads the tokens of a page.
    pub layout: Layout,
    patches_per_call: usize,
}

impl EncoderConfig {
    /// An encoder of these parts.
    ///
    /// # Panics
    /// If the compressor's output is not as wide as CLIP, which takes it in place of patch embeddings.
    pub fn new(sam: SamConfig, compressor: CompressorConfig, clip: ClipConfig, hidden: usize) -> Self {
        let features = compressor.channels[1];
        assert_eq!(features, clip.width, "the compressor gives {features} channels, clip takes {}", clip.width);
        Self { sam, compressor, clip, hidden, precision: Precision::Exact }
    }

    /// Sets what the towers' products may round. The default is [`Precision::Exact`].
    ///
    /// [`Precision::Bf16`] rounds what enters a product to bf16 where the CPU multiplies pairs of bf16, attention's queries,
    /// keys, values and weights included, and sums in f32, at up to twice the rate. PyTorch's bf16 rounds the results as well.
    /// Vision tokens then differ by about 0.4 % of the largest number.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// An encoder on `device`. Its parameters are random, drawn when they are first used; a loader replaces them before.
    pub fn init(&self, device: &Device) -> Encoder {
        let encoder = Encoder {
            sam: self.sam.init(device),
            compressor: self.compressor.init(self.sam.neck_channels, device),
            clip: self.clip.init(device),
            projector: Projector::new(self.clip.width + self.compressor.channels[1], self.hidden, device),
            layout: Layout::new(self.hidden, device),
            patches_per_call: PATCHES_PER_CALL,
        };
        encoder.with_precision(self.precision)
    }
}

impl Default for EncoderConfig {
    fn default() -> Self {
        let hidden = 1280;
        Self::new(SamConfig::default(), CompressorConfig::default(), ClipConfig::default(), hidden)
    }
}

impl Encoder {
    /// Where each parameter lies in a released checkpoint.
    pub const NAMES: Names = Names(&[
        ("sam.patch_embed.", "model.sam_model.patch_embed.proj."),
        ("sam.neck.conv1.", "model.sam_model.neck.0."),
        ("sam.neck.norm1.", "model.sam_model.neck.1."),
        ("sam.neck.conv2.", "model.sam_model.neck.2."),
        ("sam.neck.norm2.", "model.sam_model.neck.3."),
        ("sam.", "model.sam_model."),
        ("compressor.net_", "model.sam_model.net_"),
        ("clip.class_embedding", "model.vision_model.embeddings.class_embedding"),
        ("clip.position_embedding", "model.vision_model.embeddings.position_embedding.weight"),
        ("clip.pre_layernorm.", "model.vision_model.pre_layrnorm."),
        ("clip.layers.", "model.vision_model.transformer.layers."),
        ("projector.", "model.projector."),
        ("layout.image_newline", "model.image_newline"),
        ("layout.view_separator", "model.view_seperator"),
    ]);

    /// Views to vision tokens, each view for itself.
    ///
    /// # Shapes
    /// - `pixels`: `[views, 3, side, side]`, normalised; `side` a multiple of 64
    /// - output: `[views, q * q, hidden]` with `q = side / 64`
    pub fn forward(&self, pixels: Tensor<4>) -> Tensor<3> {
        let patches = self.sam.forward(pixels);
        let features = self.compressor.forward(patches);
        let tokens = self.clip.forward(features.clone());
        self.projector.forward(tokens, features)
    }

    /// Rectangles of views: their patches and tokens have the positions that they have in the whole view, of the size that the
    /// position tables are made for. The whole of such a view, `at` `[0, 0]`, gives what [`forward`](Self::forward) gives.
    ///
    /// It is for training, where a few lines of text are to be read before whole pages.
    ///
    /// # Shapes
    /// - `pixels`: `[views, 3, 64 * rows, 64 * columns]`, normalised; `at` so many rows and columns of 64 pixels from the top left
    /// - output: `[views, rows, columns, hidden]`
    pub fn forward_part(&self, pixels: Tensor<4>, at: [usize; 2]) -> Tensor<4> {
        self.join_part(self.sam.patches_of_part(pixels, at), at)
    }

    /// The second half of [`forward_part`](Self::forward_part), from what the last block of the first tower gives.
    ///
    /// # Shapes
    /// - `patches`: `[views, 4 * rows, 4 * columns, width]` from [`Sam::patches_of_part`]
    /// - output: `[views, rows, columns, hidden]`
    pub fn join_part(&self, patches: Tensor<4>, at: [usize; 2]) -> Tensor<4> {
        let (tokens, features) = self.towers_of_part(patches, at);
        self.project_part(tokens, features)
    }

    /// What the two towers give for [`join_part`](Self::join_part), before they are joined.
    ///
    /// # Shapes
    /// - `patches`: as there
    /// - output: `[views, rows * columns, width]` of the second tower, `[views, channels, rows, columns]` of the compressor
    pub fn towers_of_part(&self, patches: Tensor<4>, at: [usize; 2]) -> (Tensor<3>, Tensor<4>) {
        let features = self.compressor.forward(self.sam.neck.forward(patches));
        (self.clip.forward_part(features.clone(), at), features)
    }

    /// Joins what [`towers_of_part`](Self::towers_of_part) gives.
    ///
    /// # Shapes
    /// - output: `[views, rows, columns, hidden]`
    pub fn project_part(&self, tokens: Tensor<3>, features: Tensor<4>) -> Tensor<4> {
        let [views, _, rows, columns] = features.dims();
        let tokens = self.projector.forward(tokens, features);
        let hidden = tokens.dims()[2];
        tokens.reshape([views, rows, columns, hidden])
    }

    /// The vision tokens of one page, in the order in which the decoder reads them.
    pub fn encode(&self, views: &Views) -> VisionTokens {
        let mut tokens = self.encode_batch(std::slice::from_ref(views));
        tokens.pop().expect("one page in, one out")
    }

    /// The vision tokens of several pages. Views of equal side go through together, whichever page they are of, as many
    /// at a time as [`with_patches_per_call`](Self::with_patches_per_call) allows.
    pub fn encode_batch(&self, pages: &[Views]) -> Vec<VisionTokens> {
        let views: Vec<&View> = pages.iter().flat_map(|page| page.tiles().iter().chain([page.page()])).collect();
        let mut encoded = self.encode_views(&views).into_iter();
        let lay_out = |page: &Views| {
            let tiles: Vec<_> = encoded.by_ref().take(page.tiles().len()).collect();
            let whole = encoded.next().expect("each page has a page view");
            VisionTokens::new(self.layout.forward(tiles, page.grid(), whole))
        };
        pages.iter().map(lay_out).collect()
    }

    /// Sets how many patches of 16 x 16 pixels go through in one call; at least one view always does.
    ///
    /// Fewer need less memory; more keep a large device busy. Nine tiles of 640 are 14400 patches, a page view of 1024
    /// is 4096. The default is 10240.
    pub fn with_patches_per_call(mut self, patches: usize) -> Self {
        self.patches_per_call = patches;
        self
    }

    /// Sets what the towers' products may round: see [`EncoderConfig::with_precision`].
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.sam.set_precision(precision);
        self.clip.set_precision(precision);
        self
    }

    /// Views of one side as the input of [`forward`](Self::forward), `[views, 3, side, side]`.
    ///
    /// # Panics
    /// If there are no views or their sides differ.
    pub fn pixels(&self, views: &[&View]) -> Tensor<4> {
        let side = views.first().expect("at least one view").side();
        assert!(views.iter().all(|view| view.side() == side), "views of one call have one side");
        // At its full size at once: a buffer that grows takes up to twice the space.
        let mut values = Vec::with_capacity(views.iter().map(|view| view.pixels().len()).sum());
        for view in views {
            view.normalize_into(&mut values);
        }
        let side = side as usize;
        let data = TensorData::new(values, [views.len(), 3, side, side]);
        Tensor::from_data(data, (&self.device(), DType::F32))
    }

    /// One `[1, q * q, hidden]` for each view, in their order.
    fn encode_views(&self, views: &[&View]) -> Vec<Tensor<3>> {
        let mut sides = BTreeMap::<u32, Vec<usize>>::new();
        for (index, view) in views.iter().enumerate() {
            sides.entry(view.side()).or_default().push(index);
        }
        let mut encoded = Vec::with_capacity(views.len());
        for (side, members) in sides {
            let patches = (side as usize / PATCH_SIDE).pow(2);
            for call in members.chunks((self.patches_per_call / patches).max(1)) {
                let chosen: Vec<_> = call.iter().map(|&index| views[index]).collect();
                let tokens = self.forward(self.pixels(&chosen));
                encoded.extend(call.iter().copied().zip(tokens.split(1, 0)));
            }
        }
        encoded.sort_by_key(|(index, _)| *index);
        encoded.into_iter().map(|(_, tokens)| tokens).collect()
    }

    fn device(&self) -> Device {
        self.layout.image_newline.val().device()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deepseek_ocr_core::{Mode, TileGrid};

    /// Every part of the released model, one block of each kind and a few channels.
    fn small() -> Encoder {
        let sam = SamConfig::new(8, 2, 2, vec![1], 64).with_neck_channels(4);
        let clip = ClipConfig::new(8, 1, 2, 16);
        EncoderConfig::new(sam, CompressorConfig::new([4, 8]), clip, 6).init(&Device::default())
    }

    fn view(side: u32, seed: u32) -> View {
        let pixels = (0..side * side * 3).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 24) as u8);
        View::new(side, pixels.collect())
    }

    fn pages() -> Vec<Views> {
        let grid = TileGrid { columns: 2, rows: 1 };
        vec![
            Views::new(Mode::Small, TileGrid::SINGLE, view(640, 1), Vec::new()),
            Views::new(Mode::Gundam, grid, view(1024, 2), vec![view(640, 3), view(640, 4)]),
            Views::new(Mode::Tiny, TileGrid::SINGLE, view(512, 5), Vec::new()),
        ]
    }

    #[test]
    fn pages_together_equal_pages_alone() {
        let (encoder, pages) = (small(), pages());
        let together = encoder.encode_batch(&pages);
        let one_at_a_time = encoder.clone().with_patches_per_call(0).encode_batch(&pages);
        for ((page, together), apart) in pages.iter().zip(together).zip(one_at_a_time) {
            let alone = encoder.encode(page);
            assert_eq!((alone.len(), alone.width()), (page.vision_tokens(), 6));
            let alone = alone.tensor().into_data();
            let tolerance = burn::tensor::Tolerance::absolute(1e-5);
            together.tensor().into_data().assert_approx_eq::<f32>(&alone, tolerance);
            apart.tensor().into_data().assert_approx_eq::<f32>(&alone, tolerance);
        }
    }

    #[test]
    #[cfg(feature = "flex")]
    fn lower_precision_is_near_and_where_the_cpu_has_it_not_the_same() {
        use deepseek_ocr_core::ops::flex::Isa;
        let (encoder, pages) = (small(), pages());
        let exact = encoder.encode(&pages[0]).tensor();
        let rounded = encoder.with_precision(Precision::Bf16).encode(&pages[0]).tensor();
        let worst = (exact.clone() - rounded).abs().max().into_scalar::<f32>();
        let largest = exact.abs().max().into_scalar::<f32>();
        assert!(worst < 0.02 * largest, "{worst} of {largest}");
        // Weights drawn at random are f32, which only attention rounds.
        let device = burn::tensor::Device::default();
        assert!(device != burn::tensor::Device::flex() || (worst > 0.0) == (Isa::best() == Isa::Avx512Bf16), "{worst}");
    }

    #[test]
    fn tiles_are_told_apart() {
        let encoder = small();
        let [_, page, _] = <[Views; 3]>::try_from(pages()).expect("three pages");
        let swapped = vec![page.tiles()[1].clone(), page.tiles()[0].clone()];
        let swapped = Views::new(page.mode(), page.grid(), page.page().clone(), swapped);
        let [a, b] = [&page, &swapped].map(|views| encoder.encode(views).tensor());
        // In the first line of the stitched tiles the two halves of ten tokens change places, its end stays.
        let expected =
            Tensor::cat(vec![a.clone().narrow(0, 10, 10), a.clone().narrow(0, 0, 10), a.narrow(0, 20, 1)], 0);
        let worst = |x: Tensor<2>, y: Tensor<2>| (x - y).abs().max().into_scalar::<f32>();
        assert!(worst(b.clone().narrow(0, 0, 10), b.clone().narrow(0, 10, 10)) > 1e-3, "the tiles are alike");
        let difference = worst(b.narrow(0, 0, 21), expected);
        assert!(difference < 1e-5, "{difference}");
    }

    #[test]
    fn parameters_are_drawn_only_when_used() {
        // 400 million parameters: drawing them would take seconds and gigabytes.
        let encoder = EncoderConfig::default().init(&Device::default());
        assert!(!encoder.sam.pos_embed.is_initialized());
        assert!(!encoder.compressor.net_3.weight.is_initialized());
        assert_eq!(encoder.num_params(), 95_569_152 + 303_177_728 + 2_622_720 + 2_560 - UNUSED_PATCH_EMBEDDING);
    }

    /// The released CLIP holds a patch embedding that nothing reads.
    const UNUSED_PATCH_EMBEDDING: usize = 1024 * 3 * 14 * 14;

    #[test]
    fn an_encoder_can_be_shared_between_threads() {
        fn shared<T: Clone + Send + Sync + 'static>(_: &T) {}
        shared(&small());
    }
}
