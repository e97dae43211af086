//! Where new positions of rows go.

use crate::{Rope, Rotation, ops::Rows};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use deepseek_ocr_core::ops::Precision;
use std::sync::Arc;

/// The end of a row: where its next positions go, and where those before them lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The next position, from 0.
    pub position: usize,
    /// The row's blocks, in the order of its positions; they reach beyond `position`.
    pub blocks: Arc<Vec<u32>>,
}

/// The ends of several rows that get one position each.
#[derive(Debug, Clone)]
pub struct Places {
    /// One for each row.
    pub ends: Vec<Place>,
    /// Their turns.
    pub rotation: Rotation,
    /// `[rows, 1 + blocks]`, i32: each row's position and its blocks, where kernels look them up; nothing on the CPU.
    #[cfg_attr(not(feature = "_cube"), allow(dead_code))]
    pub(crate) table: Option<Tensor<2, Int>>,
}

/// New positions of one row.
#[derive(Debug, Clone)]
pub struct Passage {
    /// Where they begin.
    pub place: Place,
    /// Their turns.
    pub rotation: Rotation,
    /// How many of the last ones have outputs that are asked for.
    pub outputs: usize,
    /// What products over them may round.
    pub precision: Precision,
}

impl Places {
    /// The table is made if kernels of a device want one.
    pub(crate) fn new(ends: Vec<Place>, rope: &Rope, device: Option<&Device>) -> Self {
        let positions: Vec<usize> = ends.iter().map(|end| end.position).collect();
        let table = device.map(|device| table(&ends, device));
        Self { rotation: rope.batch(&positions), ends, table }
    }

    /// Positions of the longest row, with the new one.
    #[cfg(feature = "_cube")]
    pub(crate) fn longest(&self) -> usize {
        self.ends.iter().map(|end| end.position + 1).max().unwrap_or(0)
    }
}

impl Passage {
    pub(crate) fn rows(&self) -> Rows {
        Rows::Together(self.precision)
    }

    /// The positions that are asked for.
    ///
    /// # Shapes
    /// - `x`: `[length, hidden]`
    /// - output: `[outputs, hidden]`
    pub(crate) fn last(&self, x: Tensor<2>) -> Tensor<2> {
        let length = x.dims()[0];
        if self.outputs == length { x } else { x.narrow(0, length - self.outputs, self.outputs) }
    }
}

fn table(ends: &[Place], device: &Device) -> Tensor<2, Int> {
    let most = ends.iter().map(|end| end.blocks.len()).max().unwrap_or(0);
    let line = |end: &Place| {
        let padding = vec![0; most - end.blocks.len()];
        let blocks = end.blocks.iter().map(|&block| block as i32);
        [end.position as i32].into_iter().chain(blocks).chain(padding).collect::<Vec<_>>()
    };
    let lines: Vec<i32> = ends.iter().flat_map(line).collect();
    Tensor::from_data(TensorData::new(lines, [ends.len(), 1 + most]), (device, DType::I32))
}
