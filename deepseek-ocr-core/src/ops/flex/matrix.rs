//! Weights as they lie in a checkpoint.

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
        }
    }
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If `weights` are not `outputs * inputs` numbers.
    pub fn new(weights: Weights<'a>, outputs: usize, inputs: usize) -> Self {
        assert_eq!(weights.len(), outputs * inputs, "a matrix of {outputs} x {inputs} has as many weights");
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
        let size = match self.weights {
            Weights::Bf16(_) | Weights::F16(_) => 2,
            Weights::F32(_) => 4,
        };
        self.weights.len() * size
    }

    /// The matrix that gives the outputs in `range`.
    ///
    /// # Panics
    /// If `range` leaves the matrix.
    pub fn rows(&self, range: Range<usize>) -> Self {
        let numbers = range.start * self.inputs..range.end * self.inputs;
        let weights = match self.weights {
            Weights::Bf16(w) => Weights::Bf16(&w[numbers]),
            Weights::F16(w) => Weights::F16(&w[numbers]),
            Weights::F32(w) => Weights::F32(&w[numbers]),
        };
        Self { weights, outputs: range.len(), inputs: self.inputs }
    }
}
