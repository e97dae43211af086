//! The DeepEncoder of [`deepseek-ocr`](https://docs.rs/deepseek-ocr) (section 3.2 of the paper): square views in, a few
//! hundred vision tokens out.
//!
//! # Steps
//! 1. [`Sam`] reads the pixels in patches of 16 and sees detail: window attention, four blocks look at the whole view.
//! 2. [`Compressor`] turns 16 patches into one token, before anything quadratic and wide runs.
//! 3. [`Clip`] sees the whole view through few tokens: dense global attention.
//! 4. [`Projector`] joins the two and brings them to the decoder's width.
//! 5. [`Layout`] lays tiles and page out in lines, with a learned line end after each and one separator last.
//!
//! [`Encoder::forward`] is steps 1 to 4, [`Encoder::encode`] all five. Start reading in `encoder.rs`.
//!
//! Activations are f32 on every device; the large matrices stay in the checkpoint's data type.
//!
//! Most programs want the facade crate `deepseek-ocr`, which loads the weights and calls this one.

mod clip;
mod compressor;
mod encoder;
#[cfg(test)]
mod generated;
mod heads;
mod layout;
pub mod ops;
mod position;
mod projector;
mod rel_pos;
mod sam;
mod window;

pub use clip::{Clip, ClipAttention, ClipConfig, ClipLayer, ClipMlp};
pub use compressor::{Compressor, CompressorConfig};
pub use encoder::{Encoder, EncoderConfig};
pub use layout::Layout;
pub use projector::Projector;
pub use sam::{Neck, Sam, SamAttention, SamBlock, SamConfig, SamMlp};
