//! What the benches share: options, models of true size with random weights, the machine's limits, costs, reports.
#![allow(dead_code, unused_imports, unreachable_pub)] // Each bench is a crate of its own and takes what it needs.

mod cost;
mod machine;
mod memory;
mod model;
mod options;
mod report;
mod weights;

pub use cost::{EncoderCost, Work, decoder_weights, distinct_experts};
pub use machine::{Machine, Memory};
pub use memory::{Peak, resident};
pub use model::{DecoderBench, EncoderBench, Format, PAGE_HEIGHT, PAGE_WIDTH, page, released_decoder, view};
pub use options::Options;
pub use report::{Report, fastest, fastest_when_warm};
pub use weights::{Storage, fill};
