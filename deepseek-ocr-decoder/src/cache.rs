//! Keys and values of the positions that were read: the state of a batch of sequences, in blocks of positions.

mod blocks;
mod place;

pub use place::{Passage, Place, Places};

use crate::{DecoderConfig, Rope, ops};
use blocks::Blocks;
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::sync::Arc;

/// Positions of a block: what a row wastes at most, and what attention reads in one piece for each head.
pub(crate) const BLOCK: usize = 64;

/// Blocks that memory is held for together.
pub(crate) const SLAB: usize = 8;

/// A pool that holds so many times what is used becomes smaller.
const POOL_WASTE: usize = 4;

/// Keys and values of a batch, with one length per row; rows come and go.
///
/// Positions lie in blocks of 64, and each row has a table of its blocks. A row takes a block when its positions
/// need one and gives it back when they are forgotten. Memory follows what all rows hold together. On the CPU it is held for 8
/// blocks at a time, as few as reach up to the last block in use, and nothing that was written is ever moved. On a GPU a
/// layer's blocks are one tensor, a pool that kernels find them in by number: it is copied when it grows, by half at least,
/// and when no more than a quarter of it is used.
#[derive(Debug, Clone)]
pub struct Cache {
    layers: Vec<LayerCache>,
    rows: Vec<Row>,
    blocks: Blocks,
    capacity: usize,
    /// Blocks that a pool grows to at most if it needs no more.
    most_blocks: usize,
    device: Device,
}

/// What a row holds.
#[derive(Debug, Clone, Default)]
struct Row {
    /// Shared with the places that were made of it, so that a step copies no table.
    blocks: Arc<Vec<u32>>,
    length: usize,
}

/// In how many tensors the blocks lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Memory {
    Slabs,
    Pool,
}

/// Keys and values of one block of the model.
#[derive(Debug, Clone)]
pub struct LayerCache {
    /// Of each slab `[SLAB, heads, BLOCK, width]`, rotated to their positions; or one pool of any number of blocks.
    keys: Vec<Tensor<4>>,
    /// As `keys`.
    values: Vec<Tensor<4>>,
    heads: usize,
    width: usize,
    memory: Memory,
}

impl Cache {
    /// An empty cache for `rows` sequences of at most `capacity` positions each.
    pub fn new(config: &DecoderConfig, rows: usize, capacity: usize, device: &Device) -> Self {
        assert!(
            capacity <= config.context,
            "a cache of {capacity} positions exceeds the context of {}",
            config.context
        );
        let memory = if ops::takes_pools(device) { Memory::Pool } else { Memory::Slabs };
        let (keys, values) = (Vec::new(), Vec::new());
        let empty = LayerCache { keys, values, heads: config.heads, width: config.head_width(), memory };
        Self {
            layers: vec![empty; config.layers],
            rows: vec![Row::default(); rows],
            blocks: Blocks::default(),
            capacity,
            most_blocks: usize::MAX,
            device: device.clone(),
        }
    }

    /// Holds memory for so many blocks at most, if rows do not take more: a pool is larger than what is used only below it.
    pub fn with_most_blocks(self, most_blocks: usize) -> Self {
        Self { most_blocks, ..self }
    }

    /// Adds an empty row and gives its number.
    pub fn add_row(&mut self) -> usize {
        self.rows.push(Row::default());
        self.rows.len() - 1
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Positions that a row holds.
    pub fn length(&self, row: usize) -> usize {
        self.rows[row].length
    }

    /// Positions that a row can hold at most.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Blocks that rows hold.
    pub fn held_blocks(&self) -> usize {
        self.blocks.held()
    }

    /// Blocks that memory is held for.
    pub fn allocated_blocks(&self) -> usize {
        let Some(LayerCache { keys, memory, .. }) = self.layers.first() else { return 0 };
        match memory {
            Memory::Slabs => keys.len() * SLAB,
            Memory::Pool => keys.first().map_or(0, |pool| pool.dims()[0]),
        }
    }

    /// Blocks that a row of so many positions takes.
    pub fn blocks_for(positions: usize) -> usize {
        positions.div_ceil(BLOCK)
    }

    /// Blocks that rows may hold together so that the memory is at most so many bytes.
    pub fn blocks_within(config: &DecoderConfig, bytes: u64) -> usize {
        let slabs = bytes / (SLAB as u64 * Self::block_bytes(config));
        usize::try_from(slabs).unwrap_or(usize::MAX).saturating_mul(SLAB)
    }

    /// Bytes of a block, in all layers: keys and values in f32.
    pub fn block_bytes(config: &DecoderConfig) -> u64 {
        (2 * config.layers * config.hidden * BLOCK * size_of::<f32>()) as u64
    }

    /// Forgets the positions of a row from `length` on, so that another continuation can follow the same prefix. Blocks that
    /// then hold nothing are given back.
    pub fn truncate(&mut self, row: usize, length: usize) {
        let row = &mut self.rows[row];
        row.length = row.length.min(length);
        let kept = Self::blocks_for(row.length).min(row.blocks.len());
        if kept < row.blocks.len() {
            row.own_blocks().drain(kept..).for_each(|block| self.blocks.give(block));
            self.fit();
        }
    }

    /// The end of a row, with room for what was reserved.
    pub(crate) fn end(&self, row: usize) -> Place {
        let Row { blocks, length } = &self.rows[row];
        Place { position: *length, blocks: Arc::clone(blocks) }
    }

    /// The ends of several rows, as [`end`](Self::end), with room for a position each.
    pub(crate) fn places(&mut self, rows: &[usize], rope: &Rope) -> Places {
        rows.iter().for_each(|&row| self.reserve(row, 1));
        let ends = rows.iter().map(|&row| self.end(row)).collect();
        let pooled = self.layers.first().is_some_and(|layer| layer.memory == Memory::Pool);
        Places::new(ends, rope, pooled.then_some(&self.device))
    }

    pub(crate) fn layer(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// Makes room for `count` more positions in a row.
    pub(crate) fn reserve(&mut self, row: usize, count: usize) {
        let state = &mut self.rows[row];
        let needed = state.length + count;
        assert!(needed <= self.capacity, "row {row} needs {needed} positions of a cache for {}", self.capacity);
        let missing = Self::blocks_for(needed).saturating_sub(state.blocks.len());
        if missing > 0 {
            state.own_blocks().extend((0..missing).map(|_| self.blocks.take()));
            self.fit();
        }
    }

    /// Counts positions whose keys and values were written in every layer.
    pub(crate) fn advance(&mut self, row: usize, count: usize) {
        self.rows[row].length += count;
    }

    /// Holds memory for the blocks in use.
    fn fit(&mut self) {
        let (needed, held) = (self.blocks.end().next_multiple_of(SLAB), self.allocated_blocks());
        let larger = (held + held / 2).next_multiple_of(SLAB).min(self.most_blocks);
        let pool = match needed {
            _ if needed > held => needed.max(larger),
            _ if needed * POOL_WASTE <= held => needed,
            _ => held,
        };
        self.layers.iter_mut().for_each(|layer| match layer.memory {
            Memory::Slabs => layer.hold_slabs(needed / SLAB, &self.device),
            Memory::Pool => layer.hold_pool(pool, &self.device),
        });
    }
}

impl Row {
    /// The table, to be changed: a copy if a place still has it.
    fn own_blocks(&mut self) -> &mut Vec<u32> {
        #[cfg(test)]
        crate::work::add(if Arc::strong_count(&self.blocks) > 1 { self.blocks.len() } else { 1 });
        Arc::make_mut(&mut self.blocks)
    }
}

impl LayerCache {
    /// Writes keys and values from `place` on.
    ///
    /// # Shapes
    /// - `keys`, `values`: `[heads, length, width]`
    pub(crate) fn write(&mut self, place: &Place, keys: &Tensor<3>, values: &Tensor<3>) {
        let [heads, length, width] = keys.dims();
        let mut done = 0;
        while done < length {
            let (slab, block) = self.locate(place.blocks[(place.position + done) / BLOCK]);
            let start = (place.position + done) % BLOCK;
            let count = (BLOCK - start).min(length - done);
            let ranges = [block..block + 1, 0..heads, start..start + count, 0..width];
            for (slabs, new) in [(&mut self.keys, keys), (&mut self.values, values)] {
                let part = new.clone().narrow(1, done, count).unsqueeze_dim(0);
                // `inplace` keeps each tensor unique, so that backends write where it lies.
                slabs[slab].inplace(|all| all.slice_assign(ranges.clone(), part));
            }
            done += count;
        }
    }

    /// The first `length` positions of the row that ends at `place`, copied together.
    ///
    /// # Shapes
    /// - output: `[heads, length, width]`, twice
    pub(crate) fn read(&self, place: &Place, length: usize) -> (Tensor<3>, Tensor<3>) {
        let blocks = &place.blocks[..Cache::blocks_for(length)];
        // Neighbours in the table are as a rule neighbours in memory.
        let runs: Vec<&[u32]> = blocks.chunk_by(|&a, &b| b == a + 1 && self.locate(a).0 == self.locate(b).0).collect();
        let gather = |slabs: &[Tensor<4>]| {
            let part = |run: &&[u32]| {
                let (slab, block) = self.locate(run[0]);
                let blocks = slabs[slab].clone().narrow(0, block, run.len());
                blocks.swap_dims(0, 1).reshape([self.heads, run.len() * BLOCK, self.width])
            };
            Tensor::cat(runs.iter().map(part).collect(), 1).narrow(1, 0, length)
        };
        (gather(&self.keys), gather(&self.values))
    }

    /// The slabs of keys and those of values, each `[SLAB, heads, BLOCK, width]`.
    #[cfg(feature = "flex")]
    pub(crate) fn slabs(&self) -> [&[Tensor<4>]; 2] {
        [&self.keys, &self.values]
    }

    /// The pool of keys and that of values, each `[blocks, heads, BLOCK, width]`, if there is one.
    #[cfg(feature = "_cube")]
    pub(crate) fn pool(&self) -> Option<[&Tensor<4>; 2]> {
        (self.memory == Memory::Pool).then(|| Some([self.keys.first()?, self.values.first()?])).flatten()
    }

    /// Lets `write` write to the pool where it lies.
    #[cfg(feature = "_cube")]
    pub(crate) fn write_pool(&mut self, write: impl FnOnce([Tensor<4>; 2]) -> [Tensor<4>; 2]) {
        let pool = [&mut self.keys, &mut self.values].map(|kind| kind.pop().expect("the pool is there"));
        let [keys, values] = write(pool);
        self.keys.push(keys);
        self.values.push(values);
    }

    fn locate(&self, block: u32) -> (usize, usize) {
        match self.memory {
            Memory::Slabs => locate(block),
            Memory::Pool => (0, block as usize),
        }
    }

    fn hold_pool(&mut self, blocks: usize, device: &Device) {
        for kind in [&mut self.keys, &mut self.values] {
            let old = kind.pop();
            let held = old.as_ref().map_or(0, |old| old.dims()[0]);
            if blocks == held {
                kind.extend(old);
            } else if blocks > 0 {
                let shape = [blocks, self.heads, BLOCK, self.width];
                let new = Tensor::zeros(shape, (device, DType::F32));
                let kept = held.min(blocks);
                let ranges = [0..kept, 0..self.heads, 0..BLOCK, 0..self.width];
                kind.push(match old {
                    Some(old) => new.slice_assign(ranges, old.narrow(0, 0, kept)),
                    None => new,
                });
            }
        }
    }

    fn hold_slabs(&mut self, slabs: usize, device: &Device) {
        let shape = [SLAB, self.heads, BLOCK, self.width];
        // Zeros of the system's are not touched before they are written over; `Tensor::zeros` writes and copies them on the CPU.
        let zeros = || TensorData::new(vec![0f32; shape.iter().product()], shape);
        let empty = || Tensor::from_data(zeros(), (device, DType::F32));
        self.keys.resize_with(slabs, empty);
        self.values.resize_with(slabs, empty);
    }
}

/// Slab of a block, and its place there, where memory is held in slabs.
pub(crate) fn locate(block: u32) -> (usize, usize) {
    (block as usize / SLAB, block as usize % SLAB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn rows_keep_what_was_written_while_others_come_and_go() {
        let (device, config) = (Device::flex(), DecoderConfig { context: 1200, ..fixture::config() });
        let (heads, width) = (config.heads, config.head_width());
        let mut cache = Cache::new(&config, 2, 1100, &device);
        assert_eq!((cache.allocated_blocks(), cache.rows(), cache.add_row()), (0, 2, 2));
        let chunk = |length: usize, seed: u64| {
            let values = fixture::values(heads * length * width, seed);
            Tensor::<1>::from_floats(values.as_slice(), &device).reshape([heads, length, width])
        };
        let mut written = [Vec::new(), Vec::new(), Vec::new()];
        // Row, positions, then blocks held and allocated.
        let actions = [(0, 500, 8, 8), (1, 3, 9, 16), (0, 13, 10, 16), (2, 64, 11, 16), (1, 1097, 28, 32)];
        for (i, (row, length, held, allocated)) in actions.into_iter().enumerate() {
            cache.reserve(row, length);
            assert_eq!((cache.held_blocks(), cache.allocated_blocks()), (held, allocated));
            let (keys, values) = (chunk(length, 2 * i as u64), chunk(length, 2 * i as u64 + 1));
            let place = cache.end(row);
            cache.layer(1).write(&place, &keys, &values);
            cache.advance(row, length);
            written[row].push((keys, values));
        }
        let check = |cache: &mut Cache, row: usize| {
            let (keys, values): (Vec<_>, Vec<_>) = written[row].iter().cloned().unzip();
            let place = cache.end(row);
            let (found_keys, found_values) = cache.layer(1).read(&place, place.position);
            assert_eq!(fixture::floats(found_keys), fixture::floats(Tensor::cat(keys, 1)));
            assert_eq!(fixture::floats(found_values), fixture::floats(Tensor::cat(values, 1)));
        };
        (0..3).for_each(|row| check(&mut cache, row));
        cache.truncate(1, 0);
        assert_eq!((cache.held_blocks(), cache.allocated_blocks()), (10, 16));
        [0, 2].into_iter().for_each(|row| check(&mut cache, row));
        cache.truncate(0, 0);
        cache.truncate(2, 1);
        assert_eq!((cache.held_blocks(), cache.length(2)), (1, 1));
        cache.truncate(2, 0);
        assert_eq!((cache.held_blocks(), cache.allocated_blocks()), (0, 0));
    }

    #[test]
    fn a_step_copies_no_table() {
        let config = DecoderConfig { context: 8000, ..fixture::config() };
        let steps = |count: usize| {
            let mut cache = Cache::new(&config, 1, count, &Device::flex());
            crate::work::of(|| {
                for _ in 0..count {
                    cache.reserve(0, 1);
                    let (place, again) = (cache.end(0), cache.end(0));
                    assert!(Arc::ptr_eq(&place.blocks, &again.blocks));
                    cache.advance(0, 1);
                }
            })
        };
        // A change of the table for each block.
        assert_eq!((steps(640), steps(5120)), (10, 80));
        // What was handed out stays as it was.
        let mut cache = Cache::new(&config, 1, 200, &Device::flex());
        cache.reserve(0, 100);
        let before = cache.end(0);
        cache.reserve(0, 200);
        assert_eq!((before.blocks.len(), cache.end(0).blocks.len()), (2, 4));
    }

    #[test]
    fn bytes_are_those_of_the_tensors() {
        let config = fixture::config();
        let mut cache = Cache::new(&config, 1, 48, &Device::flex());
        cache.reserve(0, 1);
        let slab: usize = cache.layers.iter().map(|layer| 2 * layer.keys[0].shape().num_elements() * 4).sum();
        assert_eq!(SLAB as u64 * Cache::block_bytes(&config), slab as u64);
        let within = |bytes: usize| Cache::blocks_within(&config, bytes as u64);
        assert_eq!([slab - 1, slab, 3 * slab + 1].map(within), [0, SLAB, 3 * SLAB]);
        assert!(Cache::blocks_within(&config, u64::MAX) > 1 << 32);
    }

    #[test]
    #[should_panic(expected = "row 0 needs 11 positions of a cache for 10")]
    fn the_capacity_is_a_limit() {
        Cache::new(&fixture::config(), 1, 10, &Device::flex()).reserve(0, 11);
    }
}
