//! Choosing the next token from logits.

use chacha20::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use deepseek_ocr_core::{Error, Result};
use std::cmp::Ordering;

/// How many candidates nucleus sampling sorts at first; most nuclei are far smaller.
const FIRST_CANDIDATES: usize = 256;

/// Where numbers may be that are not finite.
const LOGITS: &str = "the decoder's logits";

/// How the next token is chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub enum Sampling {
    /// The token with the highest logit; among equals the lowest id.
    #[default]
    Greedy,
    /// A random token of the nucleus: the fewest most probable tokens that together have the probability `top_p`.
    Nucleus {
        /// Divides the logits; above 0.
        temperature: f32,
        /// Above 0, at most 1.
        top_p: f32,
        /// Equal seeds give equal choices from equal logits.
        seed: u64,
    },
}

/// Tokens that a kernel knows at most: it gives their numbers in f32, which has no others without a gap.
#[cfg(feature = "_cube")]
pub(crate) const MOST_TOKENS: usize = 1 << 24;

/// What a kernel gives instead of a token where all are banned, and where a logit is not finite.
#[cfg(feature = "_cube")]
pub(crate) const ALL_BANNED: i32 = -1;
#[cfg(feature = "_cube")]
pub(crate) const NOT_FINITE: i32 = -2;

/// A chosen token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    pub(crate) id: u32,
    /// Under the model's own distribution: temperature 1, nothing banned.
    pub(crate) probability: f32,
}

/// One row's way of choosing, with its random state.
#[derive(Debug)]
pub(crate) enum Sampler {
    Greedy,
    Nucleus { temperature: f64, top_p: f64, random: Box<ChaCha8Rng> },
}

impl Choice {
    /// What a kernel chose.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a logit is NaN or infinite.
    #[cfg(feature = "_cube")]
    pub(crate) fn of_kernel(id: f32, probability: f32) -> Result<Option<Self>> {
        match id as i32 {
            NOT_FINITE => Err(Error::NotFinite { place: LOGITS }),
            ALL_BANNED => Ok(None),
            id => Ok(Some(Self { id: id as u32, probability })),
        }
    }
}

impl Sampler {
    /// # Errors
    /// [`Error::InvalidRequest`] for a setting out of range.
    pub(crate) fn new(sampling: Sampling) -> Result<Self> {
        let Sampling::Nucleus { temperature, top_p, seed } = sampling else { return Ok(Self::Greedy) };
        if !(temperature > 0.0 && temperature.is_finite()) {
            let expected = "a finite number above 0 (without randomness: greedy sampling)";
            return Err(Error::invalid_request("temperature", temperature, expected));
        }
        if !(top_p > 0.0 && top_p <= 1.0) {
            return Err(Error::invalid_request("top_p", top_p, "above 0 and at most 1"));
        }
        let random = Box::new(ChaCha8Rng::seed_from_u64(seed));
        Ok(Self::Nucleus { temperature: temperature.into(), top_p: top_p.into(), random })
    }

    /// Chooses among the tokens that are not `banned` (ascending); `None` if all are.
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a logit is NaN or infinite.
    pub(crate) fn choose(&mut self, logits: &[f32], banned: &[u32]) -> Result<Option<Choice>> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Error::NotFinite { place: LOGITS });
        }
        let id = match self {
            Self::Greedy => allowed(logits, banned).min_by(|&a, &b| better(logits, a, b)),
            Self::Nucleus { temperature, top_p, random } => {
                let candidates: Vec<u32> = allowed(logits, banned).collect();
                draw(logits, candidates, *temperature, *top_p, random)
            }
        };
        Ok(id.map(|id| Choice { id, probability: probability(logits, id) }))
    }
}

fn allowed<'a>(logits: &[f32], banned: &'a [u32]) -> impl Iterator<Item = u32> + use<'a> {
    (0..logits.len() as u32).filter(|id| banned.is_empty() || banned.binary_search(id).is_err())
}

/// Higher logits first, then lower ids: a total order, so that equal logits never make a choice depend on chance.
fn better(logits: &[f32], a: u32, b: u32) -> Ordering {
    logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b))
}

/// The probability of `id` among all tokens.
fn probability(logits: &[f32], id: u32) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|logit| f64::from((logit - highest).exp())).sum();
    (f64::from(logits[id as usize] - highest).exp() / total) as f32
}

/// A random candidate of the nucleus.
fn draw(
    logits: &[f32],
    mut candidates: Vec<u32>,
    temperature: f64,
    top_p: f64,
    random: &mut ChaCha8Rng,
) -> Option<u32> {
    let highest = candidates.iter().map(|&id| logits[id as usize]).reduce(f32::max)?;
    let weight = |id: u32| (f64::from(logits[id as usize] - highest) / temperature).exp();
    let goal = top_p * candidates.iter().map(|&id| weight(id)).sum::<f64>();
    let mut wanted = FIRST_CANDIDATES;
    let (nucleus, mass) = loop {
        let sorted = best(logits, &mut candidates, wanted);
        let mut mass = 0.0;
        let reached = sorted.iter().position(|&id| {
            mass += weight(id);
            mass >= goal
        });
        match reached {
            Some(last) => break (last + 1, mass),
            // Rounding may leave the sum of all just under the goal.
            None if sorted.len() == candidates.len() => break (candidates.len(), mass),
            None => wanted *= 4,
        }
    };
    let mut left = unit(random) * mass;
    let nucleus = &candidates[..nucleus];
    let hit = nucleus.iter().find(|&&id| {
        left -= weight(id);
        left < 0.0
    });
    hit.or(nucleus.last()).copied()
}

/// Uniform in 0..1, with as many bits as a double holds.
fn unit(random: &mut ChaCha8Rng) -> f64 {
    (random.next_u64() >> (u64::BITS - f64::MANTISSA_DIGITS)) as f64 / (1u64 << f64::MANTISSA_DIGITS) as f64
}

/// Brings the best `wanted` candidates to the front, in order.
fn best<'a>(logits: &[f32], candidates: &'a mut [u32], wanted: usize) -> &'a [u32] {
    let order = |a: &u32, b: &u32| better(logits, *a, *b);
    let wanted = wanted.min(candidates.len());
    if wanted < candidates.len() {
        candidates.select_nth_unstable_by(wanted, order);
    }
    candidates[..wanted].sort_unstable_by(order);
    &candidates[..wanted]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn nucleus(temperature: f32, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(Sampling::Nucleus { temperature, top_p, seed }).unwrap()
    }

    fn pick(sampler: &mut Sampler, logits: &[f32], banned: &[u32]) -> u32 {
        sampler.choose(logits, banned).unwrap().unwrap().id
    }

    #[test]
    fn greedy_takes_the_best_that_is_not_banned_and_the_lowest_id_of_equals() {
        let logits = [1.0, 3.0, 2.0, 3.0];
        assert_eq!(pick(&mut Sampler::Greedy, &logits, &[]), 1);
        assert_eq!(pick(&mut Sampler::Greedy, &logits, &[1]), 3);
        assert_eq!(pick(&mut Sampler::Greedy, &logits, &[1, 3]), 2);
        assert_eq!(Sampler::Greedy.choose(&logits, &[0, 1, 2, 3]).unwrap(), None);
        assert_eq!(nucleus(1.0, 0.5, 0).choose(&logits, &[0, 1, 2, 3]).unwrap(), None);
    }

    #[test]
    fn the_probability_is_the_models_own() {
        // exp of these: 1, 3, 4.
        let logits = [0.0, 3f32.ln(), 4f32.ln()];
        let choice = Sampler::Greedy.choose(&logits, &[2]).unwrap().unwrap();
        assert_eq!(choice.id, 1);
        assert!((choice.probability - 3.0 / 8.0).abs() < 1e-6);
        let choice = nucleus(0.1, 0.1, 7).choose(&logits, &[2]).unwrap().unwrap();
        assert!((choice.probability - 3.0 / 8.0).abs() < 1e-6);
    }

    #[test]
    fn logits_that_are_not_finite_are_an_error() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(matches!(Sampler::Greedy.choose(&[0.0, bad], &[]), Err(Error::NotFinite { .. })));
        }
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        for (temperature, top_p) in [(0.0, 0.9), (-1.0, 0.9), (f32::NAN, 0.9), (1.0, 0.0), (1.0, 1.1), (1.0, f32::NAN)]
        {
            assert!(Sampler::new(Sampling::Nucleus { temperature, top_p, seed: 0 }).is_err());
        }
    }

    #[test]
    fn a_seed_repeats_its_choices_and_seeds_differ() {
        let logits = fixture::values(1000, 1);
        let run = |seed| {
            let mut sampler = nucleus(1.0, 1.0, seed);
            (0..50).map(|_| pick(&mut sampler, &logits, &[])).collect::<Vec<_>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
        // As they came out at first: a seed keeps its meaning from release to release.
        assert_eq!(run(0)[..4], [742, 632, 926, 905]);
    }

    #[test]
    fn frequencies_follow_the_tempered_probabilities_of_the_nucleus() {
        // Halves after temperature 2: probabilities 8, 4, 2, 1, 1 of 16, in mixed order; 0.8 takes the first three.
        let logits = [2f32, 8.0, 1.0, 4.0, 1.0].map(|weight| 2.0 * weight.ln());
        let mut sampler = nucleus(2.0, 0.8, 11);
        let mut counts = [0i32; 5];
        (0..14_000).for_each(|_| counts[pick(&mut sampler, &logits, &[]) as usize] += 1);
        assert_eq!((counts[2], counts[4]), (0, 0));
        // Five standard deviations of a count are about 300.
        for (id, expected) in [(1, 8000), (3, 4000), (0, 2000)] {
            assert!((counts[id] - expected).abs() < 300, "{counts:?}");
        }
    }

    #[test]
    fn a_nucleus_wider_than_the_first_candidates_is_reached() {
        let logits = vec![0.0; 5000];
        let mut sampler = nucleus(1.0, 0.5, 2);
        let ids: Vec<u32> = (0..2000).map(|_| pick(&mut sampler, &logits, &[])).collect();
        // Equal logits rank by id: the nucleus is the lower half.
        assert!(ids.iter().all(|&id| id < 2500) && ids.iter().any(|&id| id >= 2000));
    }
}
