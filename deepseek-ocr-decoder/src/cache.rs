//! Keys and values of the positions that were read: the state of a batch of sequences.

use crate::{DecoderConfig, Rotation, ops::Rows};
use burn::tensor::{DType, Device, Tensor};
use deepseek_ocr_core::ops::Precision;

/// Positions by which the cache grows.
const BLOCK: usize = 512;

/// Keys and values of a batch, with one length per row.
///
/// All rows share one tensor per block of the model and kind. It starts empty and grows by steps of 512 positions, up to the
/// capacity, when the longest row needs them; growing copies one layer at a time. So memory follows the
/// longest row: `2 * layers * rows * hidden * 4` bytes for each of its positions (123 kB with the released model's sizes). What was
/// allocated is kept until the cache is dropped.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<LayerCache>,
    lengths: Vec<usize>,
    allocated: usize,
    capacity: usize,
}

/// Keys and values of one block of the model.
#[derive(Debug, Clone)]
pub struct LayerCache {
    /// `[rows, heads, allocated, width]`, rotated to their positions.
    pub keys: Tensor<4>,
    /// `[rows, heads, allocated, width]`.
    pub values: Tensor<4>,
}

/// A place in a cache: a position of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The row.
    pub row: usize,
    /// The position, from 0.
    pub position: usize,
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

impl Cache {
    /// An empty cache for `rows` sequences of at most `capacity` positions each.
    pub fn new(config: &DecoderConfig, rows: usize, capacity: usize, device: &Device) -> Self {
        assert!(
            capacity <= config.context,
            "a cache of {capacity} positions exceeds the context of {}",
            config.context
        );
        let empty = || Tensor::zeros([rows, config.heads, 0, config.head_width()], (device, DType::F32));
        let layers = (0..config.layers).map(|_| LayerCache { keys: empty(), values: empty() }).collect();
        Self { layers, lengths: vec![0; rows], allocated: 0, capacity }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Positions that a row holds.
    pub fn length(&self, row: usize) -> usize {
        self.lengths[row]
    }

    /// Positions that a row can hold at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Positions that memory is held for, in each row.
    pub fn allocated(&self) -> usize {
        self.allocated
    }

    /// Forgets the positions of a row from `length` on, so that another continuation can follow the same prefix.
    pub fn truncate(&mut self, row: usize, length: usize) {
        self.lengths[row] = self.lengths[row].min(length);
    }

    /// The next free place of a row.
    pub(crate) fn end(&self, row: usize) -> Place {
        Place { row, position: self.lengths[row] }
    }

    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// Makes room for `count` more positions in a row.
    pub(crate) fn reserve(&mut self, row: usize, count: usize) {
        let needed = self.lengths[row] + count;
        assert!(needed <= self.capacity, "row {row} needs {needed} positions of a cache for {}", self.capacity);
        if needed > self.allocated {
            self.allocated = needed.next_multiple_of(BLOCK).min(self.capacity);
            self.layers.iter_mut().for_each(|layer| layer.grow(self.allocated));
        }
    }

    /// Counts positions whose keys and values were written in every layer.
    pub(crate) fn advance(&mut self, row: usize, count: usize) {
        self.lengths[row] += count;
    }
}

impl LayerCache {
    /// Writes keys and values from `place` on.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[heads, length, width]`
    pub(crate) fn write(&mut self, place: Place, keys: Tensor<3>, values: Tensor<3>) {
        let [heads, length, width] = keys.dims();
        let Place { row, position } = place;
        let ranges = [row..row + 1, 0..heads, position..position + length, 0..width];
        // `inplace` keeps each tensor unique, so that backends write where it lies.
        self.keys.inplace(|all| all.slice_assign(ranges.clone(), keys.unsqueeze_dim(0)));
        self.values.inplace(|all| all.slice_assign(ranges, values.unsqueeze_dim(0)));
    }

    /// The first `length` positions of a row.
    ///
    /// # Shapes
    /// - output: `[heads, length, width]`, twice
    pub(crate) fn read(&self, row: usize, length: usize) -> (Tensor<3>, Tensor<3>) {
        let take = |all: &Tensor<4>| all.clone().narrow(0, row, 1).narrow(2, 0, length).squeeze_dim(0);
        (take(&self.keys), take(&self.values))
    }

    fn grow(&mut self, positions: usize) {
        for tensor in [&mut self.keys, &mut self.values] {
            let [rows, heads, old, width] = tensor.dims();
            let larger = Tensor::zeros([rows, heads, positions, width], (&tensor.device(), DType::F32));
            tensor.inplace(|tensor| match old {
                0 => larger,
                _ => larger.slice_assign([0..rows, 0..heads, 0..old, 0..width], tensor),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn growth_keeps_what_was_written_and_stays_within_the_capacity() {
        let (device, config) = (Device::flex(), DecoderConfig { context: 1200, ..fixture::config() });
        let (heads, width) = (config.heads, config.head_width());
        let mut cache = Cache::new(&config, 2, 1100, &device);
        assert_eq!((cache.allocated(), cache.rows()), (0, 2));
        let chunk = |length: usize, seed: u64| {
            let values = fixture::values(heads * length * width, seed);
            Tensor::<1>::from_floats(values.as_slice(), &device).reshape([heads, length, width])
        };
        let mut written = [Vec::new(), Vec::new()];
        for (i, (row, length, allocated)) in
            [(0, 500, 512), (1, 3, 512), (0, 13, 1024), (1, 1097, 1100)].into_iter().enumerate()
        {
            let place = cache.end(row);
            cache.reserve(row, length);
            assert_eq!(cache.allocated(), allocated);
            let (keys, values) = (chunk(length, 2 * i as u64), chunk(length, 2 * i as u64 + 1));
            cache.layer(1).write(place, keys.clone(), values.clone());
            cache.advance(row, length);
            written[row].push((keys, values));
        }
        for (row, written) in written.into_iter().enumerate() {
            let (keys, values): (Vec<_>, Vec<_>) = written.into_iter().unzip();
            let length = cache.length(row);
            let (found_keys, found_values) = cache.layer(1).read(row, length);
            assert_eq!(fixture::floats(found_keys), fixture::floats(Tensor::cat(keys, 1)));
            assert_eq!(fixture::floats(found_values), fixture::floats(Tensor::cat(values, 1)));
        }
    }

    #[test]
    #[should_panic(expected = "row 0 needs 11 positions of a cache for 10")]
    fn the_capacity_is_a_limit() {
        Cache::new(&fixture::config(), 1, 10, &Device::flex()).reserve(0, 11);
    }
}
