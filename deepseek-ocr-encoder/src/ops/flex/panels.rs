//! Matrices packed in the order in which registers want them, and the product of a tile with a panel of them.

use super::simd::Product;
use deepseek_ocr_core::ops::flex::isa::Simd;

/// Sums of one row of a tile with one panel.
pub(super) type Pair<S> = [<S as Simd>::Vector; 2];

/// One cache line; vectors never straddle two.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LINE_WORDS]);

const LINE_WORDS: usize = 16;

/// A buffer of whole cache lines, which a thread keeps from one task to the next.
#[derive(Default)]
pub(super) struct Buffer(Vec<Line>);

impl Buffer {
    /// The first words; those never written before are zero.
    pub(super) fn words(&mut self, count: usize) -> &mut [u32] {
        let lines = count.div_ceil(LINE_WORDS);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; LINE_WORDS]));
        }
        // SAFETY: lines are arrays of words without padding.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), count) }
    }

    /// The same as numbers.
    pub(super) fn numbers(&mut self, count: usize) -> &mut [f32] {
        let words = self.words(count);
        // SAFETY: f32 and u32 have the same size and alignment, and each pattern of bits is both.
        unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), count) }
    }
}

/// Packs columns of a matrix, given as rows of numbers, that are summed over these numbers: panels of `2 * LANES` columns,
/// each step by step.
#[inline(always)]
pub(super) fn pack_columns<'a, S: Simd, P: Product>(
    to: &mut [u32],
    length: usize,
    factor: f32,
    column: impl Fn(usize) -> Option<&'a [f32]>,
) {
    let (width, steps) = (2 * S::LANES, length.div_ceil(P::PER_WORD));
    for (panel, to) in to.chunks_exact_mut(steps * width).enumerate() {
        for lane in 0..width {
            match column(panel * width + lane) {
                Some(numbers) => pack_line::<P>(&mut to[lane..], width, factor, numbers),
                None => to[lane..].iter_mut().step_by(width).for_each(|word| *word = 0),
            }
        }
    }
}

/// Writes numbers as words at a distance of `stride`.
#[inline(always)]
pub(super) fn pack_line<P: Product>(to: &mut [u32], stride: usize, factor: f32, numbers: &[f32]) {
    for (word, numbers) in to.iter_mut().step_by(stride).zip(numbers.chunks(P::PER_WORD)) {
        *word = P::word([numbers[0] * factor, numbers.get(1).map_or(0.0, |number| number * factor)]);
    }
}

/// Packs rows of a matrix that are summed over rows: panels of `2 * LANES` columns, each step by step.
#[inline(always)]
pub(super) fn pack_rows<'a, S: Simd, P: Product>(
    to: &mut [u32],
    [rows, length]: [usize; 2],
    row: impl Fn(usize) -> Option<&'a [f32]>,
) {
    let (width, steps) = (2 * S::LANES, rows.div_ceil(P::PER_WORD));
    for step in 0..steps {
        let first = row(step * P::PER_WORD);
        let second = if P::PER_WORD > 1 { row(step * P::PER_WORD + 1) } else { None };
        for (panel, to) in to.chunks_exact_mut(steps * width).enumerate() {
            let to = &mut to[step * width..(step + 1) * width];
            let range = panel * width..length.min((panel + 1) * width);
            to[range.len()..].fill(0);
            let cut = |row: Option<&'a [f32]>| row.map(|row| &row[range.clone()]);
            match (cut(first), cut(second)) {
                (Some(first), Some(second)) => to
                    .iter_mut()
                    .zip(first.iter().zip(second))
                    .for_each(|(word, (&first, &second))| *word = P::word([first, second])),
                (Some(first), None) => {
                    to.iter_mut().zip(first).for_each(|(word, &first)| *word = P::word([first, 0.0]));
                }
                (None, Some(second)) => {
                    to.iter_mut().zip(second).for_each(|(word, &second)| *word = P::word([0.0, second]));
                }
                (None, None) => to.fill(0),
            }
        }
    }
}

/// Words of a tile: those of one row lie `row_stride` apart, those of one step `step_stride`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) words: *const u32,
    pub(super) row_stride: usize,
    pub(super) step_stride: usize,
}

/// Adds the product of a tile with some steps of a panel.
///
/// # Safety
/// The instruction set; a tile of `ROWS` rows and a panel of that many steps.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd, P: Product, const ROWS: usize>(
    acc: &mut [Pair<S>; ROWS],
    x: Tile,
    mut w: *const u32,
    steps: usize,
) {
    let mut words = x.words.cast::<f32>();
    for _ in 0..steps {
        // SAFETY: passed on to the caller.
        unsafe {
            let columns = [S::load(w.cast()), S::load(w.add(S::LANES).cast())];
            for (row, acc) in acc.iter_mut().enumerate() {
                let x = S::splat(*words.add(row * x.row_stride));
                *acc = [P::step::<S>(acc[0], x, columns[0]), P::step::<S>(acc[1], x, columns[1])];
            }
            words = words.add(x.step_stride);
            w = w.add(2 * S::LANES);
        }
    }
}
