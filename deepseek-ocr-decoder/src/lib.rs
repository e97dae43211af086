//! The decoder of [`deepseek-ocr`](https://docs.rs/deepseek-ocr): segments in, token ids out.
//!
//! Most programs want the facade crate `deepseek-ocr`; this one is for those who bring their own prompts and text.
//!
//! # Steps
//!
//! 1. [`Decoder::embed`] turns a prompt, a list of [`Segment`]s, into one row of vectors per position.
//! 2. [`Decoder::prefill`] runs the whole prompt through the blocks, keeps its keys and values in a [`Cache`] and gives the
//!    logits of the next token.
//! 3. A repetition guard ([`NoRepeat`]) bans tokens, and [`Sampling`] chooses one of the others.
//! 4. [`Decoder::step`] runs one token for each unfinished row of a batch and gives the next logits.
//! 5. Steps 3 and 4 repeat until the row stops: [`Finish`] says why.
//!
//! [`Generation`] is that loop: it holds the state of a batch, which rows join and leave, while the weights stay in the
//! [`Decoder`], which many generations share.
//!
//! ```
//! use burn::tensor::Device;
//! use deepseek_ocr_decoder::{DecoderConfig, GenerateOptions, Generation, Prompt, Segment};
//!
//! # fn main() -> deepseek_ocr_core::Result<()> {
//! let config = DecoderConfig {
//!     vocab: 40, hidden: 16, layers: 2, heads: 2, dense_width: 24, dense_layers: 1, experts: 4, experts_per_token: 2,
//!     expert_width: 8, shared_width: 8, context: 64, rms_eps: 1e-6, rope_theta: 10_000.0,
//! };
//! let decoder = config.init(&Device::default()); // random weights; a `Checkpoint` has real ones
//! let prompt = Prompt { segments: vec![Segment::Text(vec![0, 7, 9])], vision_id: 39 };
//! let mut generation = Generation::new(&decoder, vec![(prompt, GenerateOptions::new(1).with_max_new_tokens(5))])?;
//! while !generation.is_finished() {
//!     for token in generation.advance(&decoder)? {
//!         assert!(token.id < 40 && token.probability > 0.0);
//!     }
//! }
//! assert!(generation.finish(0).is_some());
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attention;
mod block;
mod cache;
mod decoder;
mod experts;
#[cfg(test)]
mod fixture;
mod generate;
mod mlp;
mod moe;
mod no_repeat;
pub mod ops;
mod rope;
mod sampling;
mod segment;
mod weights;
#[cfg(test)]
mod work;

pub use attention::SelfAttention;
pub use block::{Block, Mlp};
pub use cache::{Cache, LayerCache, Passage, Place, Places};
pub use decoder::{Decoder, DecoderConfig, Taught};
pub use experts::{ExpertStack, Experts};
pub use generate::{Answer, Finish, GenerateOptions, Generation, LoopStop, Outcome, Token};
pub use mlp::GatedMlp;
pub use moe::{Choice, Moe, Router, Routing};
pub use no_repeat::NoRepeat;
pub use rope::{Rope, Rotation};
pub use sampling::Sampling;
pub use segment::{Prompt, Segment};
