//! An axis: what it shows, from where to where, and its ticks.

/// Ticks of an axis at most.
const TICKS: f64 = 8.0;

/// An axis of a [`Plot`](super::Plot).
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    label: String,
    scale: Scale,
    range: Option<(f64, f64)>,
}

/// How numbers lie on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Scale {
    /// Equal differences are equally far apart.
    #[default]
    Linear,
    /// Equal ratios are equally far apart; numbers that are not positive are not shown.
    Logarithmic,
}

/// An axis between two numbers that differ, in the scale's own terms.
pub(super) struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Axis {
    /// A linear axis over what is to be shown.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), scale: Scale::Linear, range: None }
    }

    /// Sets the scale.
    #[must_use]
    pub fn with_scale(self, scale: Scale) -> Self {
        Self { scale, ..self }
    }

    /// Sets the ends.
    #[must_use]
    pub fn with_range(self, low: f64, high: f64) -> Self {
        Self { range: Some((low, high)), ..self }
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn range(&self, numbers: impl Iterator<Item = f64>) -> Range {
        let scale = self.scale;
        let ends = |(low, high): (f64, f64), number: f64| (low.min(number), high.max(number));
        let (low, high) = match self.range {
            Some((low, high)) => (scale.place(low).unwrap_or(0.0), scale.place(high).unwrap_or(1.0)),
            None => numbers.filter_map(|number| scale.place(number)).fold((f64::INFINITY, f64::NEG_INFINITY), ends),
        };
        match low < high {
            true => Range { scale, low, high },
            // Nothing, or a single number.
            false if low.is_finite() => Range { scale, low: low - 0.5, high: low + 0.5 },
            false => Range { scale, low: 0.0, high: 1.0 },
        }
    }
}

impl Scale {
    fn place(self, number: f64) -> Option<f64> {
        let place = match self {
            Self::Linear => number,
            Self::Logarithmic if number > 0.0 => number.log10(),
            Self::Logarithmic => return None,
        };
        place.is_finite().then_some(place)
    }
}

impl Range {
    /// Where a number lies, 0 to 1 from end to end; beyond the ends it is put there.
    pub(super) fn part(&self, number: f64) -> Option<f64> {
        let part = (self.scale.place(number)? - self.low) / (self.high - self.low);
        Some(part.clamp(0.0, 1.0))
    }

    /// Parts of the axis with their numbers.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let step = match self.scale {
            Scale::Linear => round_step((self.high - self.low) / TICKS),
            Scale::Logarithmic => ((self.high - self.low) / TICKS).ceil(),
        };
        let digits = (-(step.log10() + 1e-9).floor()).max(0.0) as usize;
        let (first, last) = ((self.low / step - 1e-9).ceil() as i64, (self.high / step + 1e-9).floor() as i64);
        let label = |at: f64| match self.scale {
            Scale::Linear => format!("{at:.digits$}"),
            Scale::Logarithmic => format!("{}", 10f64.powf(at)),
        };
        let tick = |index: i64| {
            let at = index as f64 * step;
            ((at - self.low) / (self.high - self.low), label(at))
        };
        let ticks: Vec<_> = (first..=last).map(tick).collect();
        // Within a power of ten there may be none.
        if ticks.len() > 1 || self.scale == Scale::Linear { ticks } else { self.ends() }
    }

    fn ends(&self) -> Vec<(f64, String)> {
        [(0.0, self.low), (0.5, (self.low + self.high) / 2.0), (1.0, self.high)]
            .map(|(part, at)| (part, format!("{:.3}", 10f64.powf(at))))
            .to_vec()
    }
}

/// The next of 1, 2, 5, 10, .. times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.999);
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis, numbers: &[f64]) -> Vec<(f64, String)> {
        axis.range(numbers.iter().copied()).ticks()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |low, high| {
            let ticks = ticks(&Axis::new("").with_range(low, high), &[]);
            ticks.into_iter().map(|(_, label)| label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(labels(0.0, 100.0), "0 20 40 60 80 100");
        assert_eq!(labels(0.0, 1.0), "0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(labels(3.0, 4200.0), "1000 2000 3000 4000");
        assert_eq!(labels(0.011, 0.019), "0.011 0.012 0.013 0.014 0.015 0.016 0.017 0.018 0.019");
    }

    #[test]
    fn powers_of_ten_stand_on_a_logarithmic_axis() {
        let axis = Axis::new("").with_scale(Scale::Logarithmic);
        let range = axis.range([0.1, -3.0, f64::NAN, 1000.0].into_iter());
        assert_eq!(range.ticks().into_iter().map(|tick| tick.1).collect::<Vec<_>>(), ["0.1", "1", "10", "100", "1000"]);
        assert_eq!((range.part(0.0), range.part(1e9)), (None, Some(1.0)));
        assert!((range.part(10.0).unwrap_or_default() - 0.5).abs() < 1e-9);
    }

    #[test]
    fn an_axis_without_numbers_or_with_one_is_an_axis() {
        for numbers in [&[][..], &[7.0][..], &[f64::INFINITY][..]] {
            for scale in [Scale::Linear, Scale::Logarithmic] {
                assert!(ticks(&Axis::new("").with_scale(scale), numbers).len() > 1, "{numbers:?}");
            }
        }
    }
}
