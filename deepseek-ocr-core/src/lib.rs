//! What crosses a stage boundary in [`deepseek-ocr`](https://docs.rs/deepseek-ocr): modes and their geometry, views, vision
//! tokens, checkpoints, the error type, and the operations that two stages share.
//!
//! Most programs want the facade crate `deepseek-ocr`, which re-exports what they need from here.

mod checkpoint;
mod error;
mod foreign;
pub mod json;
mod linear;
mod mode;
pub mod ops;
pub mod quant;
mod views;
mod vision_tokens;

pub use checkpoint::{Checkpoint, Loading, Names, Parameters};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use linear::{LinearWeight, StoredLinear, StoredLinearConfig, TokenEmbedding};
pub use mode::{Fit, Geometry, Mode, TOKEN_SIDE, TileGrid};
pub use quant::Weights;
pub use views::{View, Views};
pub use vision_tokens::VisionTokens;
