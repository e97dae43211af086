//! What a recipe's stages say: which batches there are, and what each asks for.

use crate::recipe::Weights;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A part of the curriculum. What it says itself counts in place of what the recipe says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stage {
    /// The first step that is not its own.
    pub until: usize,
    pub batches: Vec<Bucket>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strings: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<BTreeMap<String, f64>>,
}

/// Batches of one size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bucket {
    /// Height of a page in tokens: 64 px each.
    pub rows: usize,
    pub pages: usize,
    /// How often such a batch is drawn.
    pub weight: f64,
    /// Lines and characters to a vision token where they are not the recipe's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<[u32; 2]>,
    /// Text that flows, in place of a density.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Flow>,
    /// Which part of the text the decoder is asked for; without it, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// Text that flows, in the font's own widths: one of the three embedded fonts with all of ASCII a page.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Flow {
    /// The smallest and the largest em, in pixels; whole numbers between them are drawn.
    pub sizes: [f32; 2],
    /// The smallest and the largest margin to the sides and above, in pixels.
    pub margins: [u32; 2],
}

/// Parts of a page's text: the decoder reads what is before the text, and of the text these alone, at their true positions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    /// Text tokens in all parts together; 0 leaves the decoder out.
    pub tokens: usize,
    /// They lie within so many of the text's first tokens.
    pub within: usize,
    /// Parts, each of which begins anywhere; fewer tokens are asked for where they meet.
    #[serde(default = "one")]
    pub parts: usize,
}

fn one() -> usize {
    1
}

impl Bucket {
    /// What is on its pages, where it is not what the recipe says.
    pub(crate) fn kind(&self) -> String {
        match (self.density, self.flow) {
            (_, Some(Flow { sizes: [least, most], .. })) => format!("flow {least}-{most}"),
            (Some([lines, characters]), None) => format!("{lines}x{characters}"),
            (None, None) => String::new(),
        }
    }

    /// Says what is wrong with it.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(self.rows > 0 && self.pages > 0, "batches: rows and pages should be at least 1");
        if let Some(Flow { sizes: [least, most], margins }) = self.flow {
            ensure!(least >= 6.0 && most >= least && most <= 64.0, "flow: sizes should rise, from 6 to 64 px");
            ensure!(margins[1] >= margins[0] && margins[1] <= 128, "flow: margins should rise, to 128 px at most");
            ensure!(self.density.is_none(), "flow: it stands in place of a density");
        }
        Ok(())
    }
}
