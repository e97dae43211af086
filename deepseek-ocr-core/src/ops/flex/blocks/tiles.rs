//! A tile of rows with a panel or two: sums stay in registers over all inputs.

use super::{
    Blocks,
    activations::{BLOCK_WORDS, SCALE},
    integers::{IntegerWork, Integers},
    row_words,
};
use crate::quant::{BLOCK, BlockFormat, PANEL};

/// Some rows with some panels, on one thread.
///
/// # Safety
/// `x` has whole rows of [`Quantize`](super::Quantize); each row of `y` at `stride` has room for the matrix' outputs, and nobody else
/// touches them.
pub(super) struct Strip<'a> {
    pub(super) x: &'a [u32],
    pub(super) inputs: usize,
    pub(super) blocks: Blocks<'a>,
    pub(super) bias: Option<&'a [f32]>,
    pub(super) y: *mut f32,
    pub(super) stride: usize,
}

/// The most rows of any instruction set's tile.
const MAX_ROWS: usize = 6;

/// How a format's levels are read.
trait Levels {
    /// Vectors of a block that are multiplied at once; the second one's levels are those of the block's later half.
    const AT_ONCE: usize;

    /// # Safety
    /// The instruction set, and a vector of words.
    unsafe fn read<S: Integers>(from: *const i32) -> [S::Levels; 2];
}

struct Q8;
struct Q4;

impl Levels for Q8 {
    const AT_ONCE: usize = 1;

    #[inline(always)]
    unsafe fn read<S: Integers>(from: *const i32) -> [S::Levels; 2] {
        // SAFETY: passed on to the caller.
        [unsafe { S::read_q8(from) }; 2]
    }
}

impl Levels for Q4 {
    const AT_ONCE: usize = 2;

    #[inline(always)]
    unsafe fn read<S: Integers>(from: *const i32) -> [S::Levels; 2] {
        // SAFETY: passed on to the caller.
        unsafe { S::read_q4(from) }
    }
}

impl IntegerWork for Strip<'_> {
    #[inline(always)]
    unsafe fn run<S: Integers>(self) {
        // SAFETY: passed on to the caller.
        unsafe {
            match self.blocks.format {
                BlockFormat::Q8 => self.panels::<S, Q8>(),
                BlockFormat::Q4 => self.panels::<S, Q4>(),
            }
        }
    }
}

impl Strip<'_> {
    #[inline(always)]
    unsafe fn panels<S: Integers, L: Levels>(self) {
        let one = PANEL / S::LANES;
        let panels = self.blocks.len() / self.inputs / PANEL;
        let rows = self.x.len() / row_words(self.inputs);
        let mut panel = 0;
        // SAFETY: tiles stay within the rows and panels that the caller vouches for.
        unsafe {
            while panel < panels {
                // One stream is what memory reads fastest, which is all that matters to a single row.
                let several = rows > 1 && S::VECTORS > one && panel + 1 < panels;
                match if several { S::VECTORS } else { one } {
                    1 => self.rows::<S, L, 1>(panel, rows),
                    2 => self.rows::<S, L, 2>(panel, rows),
                    _ => self.rows::<S, L, 4>(panel, rows),
                }
                panel += if several { S::VECTORS / one } else { 1 };
            }
        }
    }

    /// Tiles of nearly equal height: six rows and one would cost two tiles of six.
    #[inline(always)]
    unsafe fn rows<S: Integers, L: Levels, const VECTORS: usize>(&self, panel: usize, rows: usize) {
        let tiles = rows.div_ceil(S::ROWS);
        for tile in 0..tiles {
            let (from, to) = (tile * rows / tiles, (tile + 1) * rows / tiles);
            macro_rules! of_height {
                ($($rows:literal)*) => {
                    match to - from {
                        // Heights beyond the instruction set's tile are not even compiled.
                        // SAFETY: passed on to the caller.
                        $($rows if $rows <= S::ROWS => unsafe { self.tile::<S, L, $rows, VECTORS>(panel, from) },)*
                        height => unreachable!("tiles have 1 to {} rows, not {height}", S::ROWS),
                    }
                };
            }
            const { assert!(S::ROWS <= MAX_ROWS) };
            of_height!(1 2 3 4 5 6)
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Integers, L: Levels, const ROWS: usize, const VECTORS: usize>(&self, panel: usize, row: usize) {
        let (blocks, words) = (self.inputs / BLOCK, row_words(self.inputs));
        let vectors = self.blocks.format.vectors();
        // SAFETY: blocks stay within the panels and rows that the caller vouches for.
        unsafe {
            let mut acc = [[S::zero(); VECTORS]; ROWS];
            let x = self.x.as_ptr().add(row * words).cast::<[u32; BLOCK_WORDS]>();
            let place = |vector: usize| Place::new::<S>(panel, vector);
            for block in 0..blocks {
                let x = |row: usize| &*x.add(row * blocks + block);
                let mut sums = [[S::start(x(0)); VECTORS]; ROWS];
                for (row, sums) in sums.iter_mut().enumerate().skip(1) {
                    *sums = [S::start(x(row)); VECTORS];
                }
                for at in 0..vectors {
                    for vector in 0..VECTORS {
                        let Place { panel, lane } = place(vector);
                        let from = ((panel * blocks + block) * vectors + at) * PANEL + lane;
                        let levels = L::read::<S>(self.blocks.levels.as_ptr().add(from));
                        for (later, &levels) in levels[..L::AT_ONCE].iter().enumerate() {
                            for (row, sums) in sums.iter_mut().enumerate() {
                                sums[vector] = S::dot(sums[vector], levels, x(row)[at + later * vectors]);
                            }
                        }
                    }
                }
                for vector in 0..VECTORS {
                    let Place { panel, lane } = place(vector);
                    let scales = self.blocks.scales.as_ptr().add((panel * blocks + block) * PANEL + lane);
                    let scales = S::widen_f16(scales.cast());
                    for (row, acc) in acc.iter_mut().enumerate() {
                        let scale = S::mul(scales, S::splat(f32::from_bits(x(row)[SCALE])));
                        acc[vector] = S::mul_add(S::to_float(sums[row][vector]), scale, acc[vector]);
                    }
                }
            }
            for (of, acc) in acc.into_iter().enumerate() {
                for (vector, sum) in acc.into_iter().enumerate() {
                    let Place { panel, lane } = place(vector);
                    let output = panel * PANEL + lane;
                    let bias = self.bias.map_or(S::zero(), |bias| S::load(bias[output..].as_ptr()));
                    S::store(self.y.add((row + of) * self.stride + output), S::add(sum, bias));
                }
            }
        }
    }
}

/// Where a vector of a tile lies.
struct Place {
    panel: usize,
    lane: usize,
}

impl Place {
    #[inline(always)]
    fn new<S: Integers>(panel: usize, vector: usize) -> Self {
        let one = PANEL / S::LANES;
        Self { panel: panel + vector / one, lane: vector % one * S::LANES }
    }
}
