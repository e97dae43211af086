//! Which mode a round is held in: by its age, and by what the budget leaves.

use deepseek_ocr_core::{Error, Mode, Result};
use std::{cmp::Reverse, collections::BinaryHeap};

/// Modes with one view, from the sharpest to the faintest: where a round goes that has to fade.
const FADING: [Mode; 4] = [Mode::Large, Mode::Base, Mode::Small, Mode::Tiny];

/// How rounds fade with age.
///
/// ```
/// use deepseek_ocr::{Decay, Mode};
///
/// // Large when new, fainter after 2, 5 and 10 rounds, gone after 30.
/// let decay = Decay::new(Mode::Large).then(2, Mode::Base).then(5, Mode::Small).then(10, Mode::Tiny).gone_after(30);
/// assert_eq!(decay.mode_at(7), Some(Mode::Small));
/// assert_eq!(decay.mode_at(30), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decay {
    sharpest: Mode,
    /// From this age on, in this mode; by age.
    steps: Vec<(u64, Mode)>,
    /// From this age on it is gone.
    end: u64,
}

/// What a plan is made from: one round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) born: u64,
    pub(super) mode: Mode,
    pub(super) pinned: bool,
    pub(super) pages: usize,
    /// Of a page, in pixels.
    pub(super) size: (u32, u32),
}

impl Held {
    pub(super) fn tokens(&self) -> usize {
        self.tokens_in(self.mode)
    }

    fn tokens_in(&self, mode: Mode) -> usize {
        self.pages * mode.vision_tokens(self.size.0, self.size.1)
    }

    /// The next mode in which it takes fewer tokens.
    fn fainter(&self) -> Option<Mode> {
        FADING.into_iter().find(|&mode| self.tokens_in(mode) < self.tokens())
    }
}

/// [`Mode::Base`] at any age.
impl Default for Decay {
    fn default() -> Self {
        Self::new(Mode::Base)
    }
}

impl Decay {
    /// Rounds are held in `sharpest` at any age, as far as the budget allows.
    pub fn new(sharpest: Mode) -> Self {
        Self { sharpest, steps: Vec::new(), end: u64::MAX }
    }

    /// From `age` on a round is held in `mode`.
    #[must_use]
    pub fn then(mut self, age: u64, mode: Mode) -> Self {
        let at = self.steps.partition_point(|&(other, _)| other <= age);
        self.steps.insert(at, (age, mode));
        self
    }

    /// From `age` on a round is gone.
    #[must_use]
    pub fn gone_after(self, age: u64) -> Self {
        Self { end: age, ..self }
    }

    /// The mode at an age; `None` when the round is gone.
    pub fn mode_at(&self, age: u64) -> Option<Mode> {
        if age >= self.end {
            return None;
        }
        let reached = self.steps.partition_point(|&(from, _)| from <= age);
        Some(reached.checked_sub(1).map_or(self.sharpest, |last| self.steps[last].1))
    }

    pub(super) fn sharpest(&self) -> Mode {
        self.sharpest
    }

    pub(super) fn steps(&self) -> (&[(u64, Mode)], u64) {
        (&self.steps, self.end)
    }

    /// The mode of each round at a time, `None` for those that are gone; the rounds are in the order of their age.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the newest round does not fit beside what is pinned, or what is pinned does not fit.
    pub(super) fn plan(&self, rounds: &[Held], clock: u64, budget: usize) -> Result<Vec<Option<Mode>>> {
        #[cfg(test)]
        crate::work::add(rounds.len());
        let mut planned: Vec<Option<Held>> = rounds.iter().map(|&held| self.aged(held, clock)).collect();
        let mut total: usize = planned.iter().flatten().map(Held::tokens).sum();
        let mut giving = BinaryHeap::new();
        if total > budget {
            giving.extend((0..planned.len()).filter_map(|index| weight(&planned, index, clock)));
        }
        while total > budget {
            let Some((_, Reverse(index))) = giving.pop() else {
                let what = "vision tokens of the newest round and pinned ones";
                return Err(Error::invalid_request(what, total, format!("at most the budget of {budget}")));
            };
            #[cfg(test)]
            crate::work::add(1);
            total -= planned[index].map_or(0, |held| held.tokens());
            planned[index] = planned[index].and_then(|held| Some(Held { mode: held.fainter()?, ..held }));
            total += planned[index].map_or(0, |held| held.tokens());
            giving.extend(weight(&planned, index, clock));
        }
        Ok(planned.iter().map(|held| held.map(|held| held.mode)).collect())
    }

    /// A round as its age leaves it: no sharper than it is, for what is lost does not come back.
    fn aged(&self, held: Held, clock: u64) -> Option<Held> {
        if held.pinned {
            return Some(held);
        }
        let mode = self.mode_at(clock - held.born)?;
        let aged = Held { mode, ..held };
        Some(if aged.tokens() < held.tokens() { aged } else { held })
    }
}

/// What says which round gives way first: it fades by a step, or goes when it is at its faintest. The one that weighs most does, by its
/// vision tokens times its age, so that tokens fall with age as 1, 1/2, 1/3, ..; of equals the oldest. Nothing for a round
/// that cannot give way: a pinned one, and the newest when it is at its faintest.
fn weight(planned: &[Option<Held>], index: usize, clock: u64) -> Option<(u128, Reverse<usize>)> {
    let newest = planned.len() - 1;
    let held = planned[index].filter(|held| !held.pinned && (index < newest || held.fainter().is_some()))?;
    Some((held.tokens() as u128 * (u128::from(clock - held.born) + 1), Reverse(index)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(born: u64) -> Held {
        Held { born, mode: Mode::Base, pinned: false, pages: 1, size: (1024, 1024) }
    }

    fn plan(rounds: &[Held], budget: usize) -> Vec<Option<Mode>> {
        Decay::new(Mode::Base).plan(rounds, 4, budget).expect("it fits")
    }

    #[test]
    fn what_is_old_and_large_gives_way_first() {
        let rounds: Vec<_> = (1..=3).map(round).collect();
        let [base, small, tiny] = [Mode::Base, Mode::Small, Mode::Tiny].map(Some);
        assert_eq!(plan(&rounds, 819), [base, base, base]);
        assert_eq!(plan(&rounds, 818), [small, base, base]);
        assert_eq!(plan(&rounds, 500), [small, small, base]);
        assert_eq!(plan(&rounds, 330), [tiny, small, small]);
        assert_eq!(plan(&rounds, 219), [None, tiny, small]);
        assert_eq!(plan(&rounds, 73), [None, None, tiny]);
        assert!(Decay::default().plan(&rounds, 4, 72).is_err());
    }

    #[test]
    fn what_is_pinned_stays() {
        let mut rounds: Vec<_> = (1..=3).map(round).collect();
        rounds[0].pinned = true;
        assert_eq!(plan(&rounds, 273 + 73), [Some(Mode::Base), None, Some(Mode::Tiny)]);
        assert!(Decay::default().plan(&rounds, 4, 273 + 72).is_err());
    }

    #[test]
    fn rounds_fade_with_age() {
        let decay = Decay::new(Mode::Large).then(4, Mode::Tiny).then(1, Mode::Base).gone_after(6);
        let modes: Vec<_> = (0..7).map(|age| decay.mode_at(age)).collect();
        let [large, base, tiny] = [Mode::Large, Mode::Base, Mode::Tiny].map(Some);
        assert_eq!(modes, [large, base, base, base, tiny, tiny, None]);
        // What has faded for the budget's sake does not become sharper.
        assert_eq!(decay.plan(&[Held { mode: Mode::Tiny, ..round(4) }], 4, 1000).expect("it fits"), [tiny]);
    }

    /// The plan by its definition: look at all rounds, let one give way, and again.
    fn naive(decay: &Decay, rounds: &[Held], clock: u64, budget: usize) -> Option<Vec<Option<Mode>>> {
        let mut planned: Vec<Option<Held>> = rounds.iter().map(|&held| decay.aged(held, clock)).collect();
        while planned.iter().flatten().map(Held::tokens).sum::<usize>() > budget {
            let (_, Reverse(index)) = (0..planned.len()).filter_map(|index| weight(&planned, index, clock)).max()?;
            planned[index] = planned[index].and_then(|held| Some(Held { mode: held.fainter()?, ..held }));
        }
        Some(planned.iter().map(|held| held.map(|held| held.mode)).collect())
    }

    #[test]
    fn the_work_grows_with_the_rounds_and_no_faster() {
        // Most rounds have to fade three times and go.
        let at_once = |count: u64| {
            let rounds: Vec<_> = (1..=count).map(round).collect();
            crate::work::of(|| Decay::new(Mode::Large).plan(&rounds, count, 1000).expect("it fits"))
        };
        // Round after round, in one budget.
        let one_by_one = |count: u64| {
            crate::work::of(|| {
                let mut rounds: Vec<Held> = Vec::new();
                for clock in 1..=count {
                    rounds.push(round(clock));
                    let modes = Decay::default().plan(&rounds, clock, 2000).expect("it fits");
                    let kept = rounds.iter().zip(modes).filter_map(|(&held, mode)| Some(Held { mode: mode?, ..held }));
                    rounds = kept.collect();
                }
            })
        };
        for (few, many) in [(at_once(1000), at_once(8000)), (one_by_one(1000), one_by_one(8000))] {
            assert!(few >= 1000 && many <= 9 * few, "{few}, then {many}");
        }
    }

    proptest! {
        #[test]
        fn a_plan_is_within_its_budget(
            rounds in prop::collection::vec((0u64..40, 0usize..6, any::<bool>(), 1usize..4), 1..20),
            budget in 0usize..4000,
        ) {
            let mut rounds: Vec<Held> = rounds
                .into_iter()
                .map(|(born, mode, pinned, pages)| Held { mode: Mode::ALL[mode], pinned, pages, ..round(born) })
                .collect();
            rounds.sort_by_key(|held| held.born);
            let decay = Decay::new(Mode::Large).then(3, Mode::Base).then(9, Mode::Tiny).gone_after(30);
            prop_assert_eq!(decay.plan(&rounds, 40, budget).ok(), naive(&decay, &rounds, 40, budget));
            let least = |held: &Held| if held.pinned { held.tokens() } else { 0 };
            match decay.plan(&rounds, 40, budget) {
                Ok(modes) => {
                    let after = || rounds.iter().zip(&modes).filter_map(|(held, mode)| Some((held, (*mode)?)));
                    prop_assert!(after().map(|(held, mode)| held.tokens_in(mode)).sum::<usize>() <= budget);
                    prop_assert!(after().all(|(held, mode)| held.tokens_in(mode) <= held.tokens()));
                    for (held, mode) in rounds.iter().zip(&modes) {
                        prop_assert!(!held.pinned || *mode == Some(held.mode));
                    }
                }
                Err(_) => {
                    let newest = rounds.last().map_or(0, |held| held.tokens_in(Mode::Tiny));
                    prop_assert!(rounds.iter().map(least).sum::<usize>() + newest > budget);
                }
            }
        }
    }
}
