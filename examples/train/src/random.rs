//! Random numbers that depend on a seed and a place alone, so that a run that goes on draws what it would have drawn.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Burn's generator on the CPU is one for the process: who wants the same numbers from it again keeps others away meanwhile.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

/// The golden ratio in 64 bits: the generator's step.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Random {
    /// The generator of a place, say a step of a run. What two places draw has nothing in common: their states are mixed, not merely
    /// some steps of the generator apart.
    pub(crate) fn new(seed: u64, place: u64) -> Self {
        let mut random = Self { state: seed };
        random.state = random.next() ^ place;
        random.state = random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..count`; what is not even about it, for counts this small, is beyond notice.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.next()) * count as u128) >> 64) as usize
    }

    /// In `from..=to`.
    pub(crate) fn between(&mut self, from: i32, to: i32) -> i32 {
        from + self.below((to - from + 1) as usize) as i32
    }

    /// In `0.0..1.0`.
    pub(crate) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An index, as often as its weight has it.
    pub(crate) fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.fraction() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (index, weight) in weights.enumerate().filter(|(_, weight)| *weight > 0.0) {
            last = index;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    /// From a normal distribution.
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (self.fraction(), self.fraction());
        (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_and_seeds_have_no_number_in_common() {
        let numbers = |(seed, place)| {
            let mut random = Random::new(seed, place);
            (0..200).map(move |_| random.next())
        };
        let places = (0..20).flat_map(|seed| (0..20).map(move |place| (seed, place)));
        let drawn: BTreeSet<u64> = places.flat_map(numbers).collect();
        assert_eq!(drawn.len(), 20 * 20 * 200);
    }
}
