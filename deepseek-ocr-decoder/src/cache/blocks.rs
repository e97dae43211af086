//! Which blocks of a cache are whose: numbers only, no memory.

use std::collections::BTreeSet;

/// Hands out the numbers of blocks, the lowest free one first, so that the used ones stay together at the front.
#[derive(Debug, Clone, Default)]
pub(crate) struct Blocks {
    /// Numbers below `end` that nobody holds; never `end - 1`.
    free: BTreeSet<u32>,
    /// One more than the highest number that somebody holds.
    end: u32,
}

impl Blocks {
    /// A block that nobody holds.
    pub(crate) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.end += 1;
            self.end - 1
        })
    }

    /// Takes a block back.
    pub(crate) fn give(&mut self, block: u32) {
        let held = block < self.end && self.free.insert(block);
        assert!(held, "block {block} is given back, but nobody holds it");
        while self.end > 0 && self.free.last() == Some(&(self.end - 1)) {
            self.free.pop_last();
            self.end -= 1;
        }
    }

    /// Blocks that somebody holds.
    pub(crate) fn held(&self) -> usize {
        self.end as usize - self.free.len()
    }

    /// One more than the highest number that somebody holds.
    pub(crate) fn end(&self) -> usize {
        self.end as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Rows take and give back as they like, in any order.
        #[test]
        fn no_block_is_in_two_rows_and_all_come_back(actions in prop::collection::vec((0..6usize, -5..8i32), 0..200)) {
            let (mut blocks, mut rows) = (Blocks::default(), vec![Vec::new(); 6]);
            for (row, change) in actions {
                if change > 0 {
                    rows[row].extend((0..change).map(|_| blocks.take()));
                } else {
                    let kept = rows[row].len().saturating_sub(change.unsigned_abs() as usize);
                    rows[row].drain(kept..).for_each(|block| blocks.give(block));
                }
                let held: Vec<u32> = rows.concat();
                let distinct: BTreeSet<u32> = held.iter().copied().collect();
                prop_assert_eq!(distinct.len(), held.len());
                prop_assert_eq!(blocks.held(), held.len());
                prop_assert_eq!(blocks.end(), distinct.last().map_or(0, |last| *last as usize + 1));
            }
            rows.concat().into_iter().for_each(|block| blocks.give(block));
            prop_assert_eq!((blocks.held(), blocks.end(), blocks.free.len()), (0, 0, 0));
        }
    }

    #[test]
    fn the_lowest_free_block_comes_first() {
        let mut blocks = Blocks::default();
        assert_eq!([0; 5].map(|_| blocks.take()), [0, 1, 2, 3, 4]);
        [3, 1].into_iter().for_each(|block| blocks.give(block));
        assert_eq!([0; 3].map(|_| blocks.take()), [1, 3, 5]);
    }

    #[test]
    #[should_panic(expected = "block 2 is given back, but nobody holds it")]
    fn a_block_is_given_back_once() {
        let mut blocks = Blocks::default();
        assert_eq!([0; 4].map(|_| blocks.take()), [0, 1, 2, 3]);
        blocks.give(2);
        blocks.give(2);
    }
}
