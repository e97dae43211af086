//! Weights as they lie in a checkpoint.

use super::Blocks;
use crate::quant::{BlockFormat, PANEL};
use half::{bf16, f16};
use std::ops::Range;

/// The numbers of a weight matrix in the type in which they are stored.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Weights<'a> {
    /// Half of an f32.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// Single precision.
    F32(&'a [f32]),
    /// Blocks of 8 or 4 bits.
    Blocks(Blocks<'a>),
}

/// A weight matrix `[outputs, inputs]`, row by row.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    weights: Weights<'a>,
    outputs: usize,
    inputs: usize,
}

impl Weights<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Bf16(w) => w.len(),
            Self::F16(w) => w.len(),
            Self::F32(w) => w.len(),
            Self::Blocks(w) => w.len(),
        }
    }
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If `weights` are not `outputs * inputs` numbers, or in blocks that are not whole panels of such rows.
    pub fn new(weights: Weights<'a>, outputs: usize, inputs: usize) -> Self {
        assert_eq!(weights.len(), outputs * inputs, "a matrix of {outputs} x {inputs} has as many weights");
        if let Weights::Blocks(_) = weights {
            assert!(BlockFormat::fits([outputs, inputs]), "a matrix of {outputs} x {inputs} consists of whole blocks");
        }
        Self { weights, outputs, inputs }
    }

    /// The numbers.
    pub fn weights(&self) -> Weights<'a> {
        self.weights
    }

    /// Length of an output row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Length of an input row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes that a product reads.
    pub fn bytes(&self) -> usize {
        match self.weights {
            Weights::Bf16(_) | Weights::F16(_) => self.weights.len() * 2,
            Weights::F32(_) => self.weights.len() * 4,
            Weights::Blocks(w) => w.bytes(),
        }
    }

    /// Outputs that lie together: a matrix is divided at multiples of these.
    pub fn step(&self) -> usize {
        match self.weights {
            Weights::Bf16(_) | Weights::F16(_) | Weights::F32(_) => 1,
            Weights::Blocks(_) => PANEL,
        }
    }

    /// The matrix that gives the outputs in `range`.
    ///
    /// # Panics
    /// If `range` leaves the matrix, or does not begin and end at a [`step`](Self::step).
    pub fn rows(&self, range: Range<usize>) -> Self {
        let numbers = range.start * self.inputs..range.end * self.inputs;
        let weights = match self.weights {
            Weights::Bf16(w) => Weights::Bf16(&w[numbers]),
            Weights::F16(w) => Weights::F16(&w[numbers]),
            Weights::F32(w) => Weights::F32(&w[numbers]),
            Weights::Blocks(w) => Weights::Blocks(w.rows(range.clone(), self.inputs)),
        };
        Self { weights, outputs: range.len(), inputs: self.inputs }
    }
}
