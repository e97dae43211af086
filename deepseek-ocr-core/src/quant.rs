//! Weights of 8 and 4 bits: what the formats are, and how they lie in memory and in files.
//!
//! A matrix `[outputs, inputs]` is cut into **panels** of 16 outputs, and each panel into **blocks** of 32 inputs. Every output of
//! a block has a scale in f16; a weight is the scale times a **level**:
//!
//! | format | levels | bits a weight | error of normal weights |
//! |---|---|---|---|
//! | `q8` | whole numbers from -127 to 127 | 8.5 | 0.5 % |
//! | `q4` | the sixteen [`LEVELS`] | 4.5 | 7.3 % |
//!
//! The error is the root of the mean square, relative to that of the weights. Sixteen evenly spaced levels would have 8.1 %, and with a
//! smallest weight beside the scale, at 5 bits, 7.2 %: levels that are closer where weights are, cost one byte shuffle instead.
//!
//! The levels of a panel and block are a plane of vectors: 16 outputs side by side, each with four successive inputs, which is what one
//! vector of integer products (`vpdpbusd`) eats without a shuffle. The scales are another plane, 16 in a row:
//!
//! - levels: `[outputs / 16, inputs / 32, 8, 64]` for `q8`, byte `4 o + i` of vector `v` being input `4 v + i` of output `o`;
//!   `[outputs / 16, inputs / 32, 4, 64]` for `q4`, with the index of input `4 v + i` in the low half of the byte and that of input
//!   `16 + 4 v + i` in the high half;
//! - scales: `[outputs / 16, inputs / 32, 16]`.
//!
//! # In a file
//!
//! A converted checkpoint holds, instead of a tensor `NAME.weight`, the levels as `NAME.weight.q8` (I8) or `NAME.weight.q4` (U8) and the
//! scales as `NAME.weight.scale` (F16), in these shapes. They are memory-mapped and used as they lie. Matrices that are no
//! multiple of 16 x 32 stay what they are, and `config.json` is unchanged.
//!
//! Other tensors may be in blocks too, those of convolutions as matrices `[outputs, inputs * height * width]`: a module that has them
//! as floats unpacks them when it is loaded.

mod pack;
mod weight;

pub(crate) use pack::pack;
pub use weight::BlockWeight;
pub(crate) use weight::{levels_on, scales_on};

use crate::{Error, Result};
use burn::tensor::{DType, TensorData};
use safetensors::Dtype;
use std::{fmt, str::FromStr};

/// Outputs of a panel.
pub const PANEL: usize = 16;

/// Inputs of a block.
pub const BLOCK: usize = 32;

/// The levels of [`BlockFormat::Q4`]: those of least squared error for normal weights whose scale is fitted to each block.
///
/// Found by Lloyd's algorithm over 640,000 normal numbers, with the scale chosen as [`BlockWeight::pack`] does.
pub const LEVELS: [i8; 16] = [-127, -100, -80, -63, -49, -36, -23, -11, 1, 13, 24, 36, 50, 65, 83, 106];

/// What the scales' tensor is called after its matrix.
pub(crate) const SCALE_SUFFIX: &str = ".scale";

/// In how many bits a model keeps the matrices of its decoder; all else stays as the checkpoint has it.
///
/// ```
/// use deepseek_ocr_core::Weights;
///
/// assert_eq!("q4".parse::<Weights>()?, Weights::Q4);
/// # Ok::<(), deepseek_ocr_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Weights {
    /// As the checkpoint stores them: bf16 if it is the released one, or what it was converted to.
    #[default]
    Stored,
    /// 8.5 bits a weight.
    Q8,
    /// 4.5 bits a weight.
    Q4,
}

/// A format of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockFormat {
    /// Whole numbers from -127 to 127.
    Q8,
    /// Indices into [`LEVELS`].
    Q4,
}

impl Weights {
    /// All of them, most bits first.
    pub const ALL: [Self; 3] = [Self::Stored, Self::Q8, Self::Q4];

    /// The format of blocks, if it is one.
    pub fn blocks(self) -> Option<BlockFormat> {
        match self {
            Self::Stored => None,
            Self::Q8 => Some(BlockFormat::Q8),
            Self::Q4 => Some(BlockFormat::Q4),
        }
    }
}

impl fmt::Display for Weights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.blocks().map_or("stored", BlockFormat::name))
    }
}

impl FromStr for Weights {
    type Err = Error;

    /// Accepts the names that [`Display`](fmt::Display) prints, in any case.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|weights| weights.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::invalid_request("weights", format!("{text:?}"), "stored, q8 or q4"))
    }
}

impl From<BlockFormat> for Weights {
    fn from(format: BlockFormat) -> Self {
        match format {
            BlockFormat::Q8 => Self::Q8,
            BlockFormat::Q4 => Self::Q4,
        }
    }
}

impl BlockFormat {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Q8, Self::Q4];

    /// `q8` or `q4`: also what the levels' tensor is called after its matrix and a dot.
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
        }
    }

    /// Vectors of 64 bytes that hold the levels of a block in a panel.
    pub fn vectors(self) -> usize {
        match self {
            Self::Q8 => 8,
            Self::Q4 => 4,
        }
    }

    /// Whether a matrix of this size consists of whole blocks and panels.
    pub fn fits([outputs, inputs]: [usize; 2]) -> bool {
        outputs.is_multiple_of(PANEL) && inputs.is_multiple_of(BLOCK) && outputs * inputs > 0
    }

    /// The shape of a matrix' levels in words of four bytes.
    pub(crate) fn levels_shape(self, [outputs, inputs]: [usize; 2]) -> [usize; 4] {
        [outputs / PANEL, inputs / BLOCK, self.vectors(), PANEL]
    }

    /// The type and shape of a matrix' levels in a file.
    pub(crate) fn stored_levels(self, size: [usize; 2]) -> (Dtype, [usize; 4]) {
        let [panels, blocks, vectors, words] = self.levels_shape(size);
        let dtype = match self {
            Self::Q8 => Dtype::I8,
            Self::Q4 => Dtype::U8,
        };
        (dtype, [panels, blocks, vectors, 4 * words])
    }

    /// A matrix' levels, words of four bytes as a [`BlockWeight`] has them, in the type and shape that they have in a file.
    pub fn in_file(self, levels: TensorData) -> TensorData {
        let shape: Vec<usize> = levels.shape().iter().copied().collect();
        let dtype = match self {
            Self::Q8 => DType::I8,
            Self::Q4 => DType::U8,
        };
        TensorData::from_bytes_vec(levels.bytes().to_vec(), [&shape[..3], &[4 * PANEL]].concat(), dtype)
    }

    /// The format and the matrix' size whose levels have a shape.
    pub(crate) fn of_levels(shape: &[usize]) -> Option<(Self, [usize; 2])> {
        let &[panels, blocks, vectors, PANEL] = shape else { return None };
        let format = Self::ALL.into_iter().find(|format| format.vectors() == vectors)?;
        Some((format, [panels * PANEL, blocks * BLOCK]))
    }

    /// The shape of a matrix' scales.
    pub(crate) fn scales_shape([outputs, inputs]: [usize; 2]) -> [usize; 3] {
        [outputs / PANEL, inputs / BLOCK, PANEL]
    }

    /// The format whose levels a tensor's name says it holds, and the name of the matrix.
    pub(crate) fn of_name(name: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|format| {
            let matrix = name.strip_suffix(format.name())?.strip_suffix('.')?;
            matrix.ends_with(".weight").then_some((format, matrix))
        })
    }

    /// What a matrix' levels are called in a file.
    pub(crate) fn levels_name(self, matrix: &str) -> String {
        format!("{matrix}.{}", self.name())
    }

    /// What a matrix' levels and scales are called in a file.
    pub fn names(self, matrix: &str) -> [String; 2] {
        [self.levels_name(matrix), format!("{matrix}{SCALE_SUFFIX}")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_printed() {
        for weights in Weights::ALL {
            assert_eq!(weights.to_string().parse::<Weights>().expect("a name"), weights);
        }
        let error = "q5".parse::<Weights>().expect_err("no such format").to_string();
        assert_eq!(error, "invalid request: weights is \"q5\", expected stored, q8 or q4");
    }

    #[test]
    fn only_names_of_levels_are_taken_for_some() {
        assert_eq!(BlockFormat::of_name("a.weight.q8"), Some((BlockFormat::Q8, "a.weight")));
        assert_eq!(BlockFormat::of_name("a.weight.q4"), Some((BlockFormat::Q4, "a.weight")));
        for name in ["a.weight", "a.weight.scale", "a.q8", "weightq8", "a.weight.q8.q"] {
            assert_eq!(BlockFormat::of_name(name), None, "{name}");
        }
    }
}
