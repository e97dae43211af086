//! Loops that the compiler turns into vector code, compiled once for each instruction set.

use deepseek_ocr_core::ops::flex::Isa;

/// Numbers of a block in which loops work: a vector of the widest instruction set.
pub(super) const LANES: usize = 16;

/// A piece of work. Implementations are `#[inline(always)]`, so that the code takes on the instruction set of its caller.
pub(super) trait Work {
    type Output;

    fn run<M: Multiply>(self) -> Self::Output;
}

/// How products are added.
pub(super) trait Multiply {
    /// `a * b + c`.
    fn add(a: f32, b: f32, c: f32) -> f32;
}

/// One rounding, in one instruction.
struct Fused;

/// Two roundings: without the instruction a fused product is a slow function call.
struct Separate;

impl Multiply for Fused {
    #[inline(always)]
    fn add(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Multiply for Separate {
    #[inline(always)]
    fn add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }
}

/// Runs `work` compiled for `isa`, which this CPU must have.
pub(super) fn run<W: Work>(isa: Isa, work: W) -> W::Output {
    assert!(isa.is_available(), "this CPU lacks {isa:?}");
    // SAFETY: the CPU has the instructions.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        match isa {
            Isa::Avx512Bf16 | Isa::Avx512 => return avx512(work),
            Isa::Avx2 => return avx2(work),
            _ => {}
        }
    }
    // The base instruction set of aarch64 has fused products.
    if cfg!(target_arch = "aarch64") { work.run::<Fused>() } else { work.run::<Separate>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn avx512<W: Work>(work: W) -> W::Output {
    work.run::<Fused>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn avx2<W: Work>(work: W) -> W::Output {
    work.run::<Fused>()
}

/// `e^x` with an error of about one unit in the last place; numbers below -87 give 0, above 88 give `e^88`.
#[inline(always)]
pub(super) fn exp<M: Multiply>(x: f32) -> f32 {
    const HIGHEST: f32 = 88.0;
    const LOWEST: f32 = -87.0;
    /// Adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first with few enough bits that its multiples are exact (Cody and Waite).
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    /// `1 / n!` from `n = 7` down.
    const TAYLOR: [f32; 6] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5];
    let clamped = if x > HIGHEST { HIGHEST } else { x };
    let clamped = if clamped < LOWEST { LOWEST } else { clamped };
    let shifted = M::add(clamped, std::f32::consts::LOG2_E, ROUND);
    let whole = shifted - ROUND;
    let rest = M::add(-LN_2[1], whole, M::add(-LN_2[0], whole, clamped));
    let mut sum = TAYLOR[0];
    for factor in &TAYLOR[1..] {
        sum = M::add(sum, rest, *factor);
    }
    let fraction = M::add(M::add(sum, rest, 1.0), rest, 1.0);
    const EXPONENT: u32 = 23;
    let power = f32::from_bits(fraction.to_bits().wrapping_add(shifted.to_bits() << EXPONENT));
    let power = if x < LOWEST { 0.0 } else { power };
    if x.is_nan() { x } else { power }
}

/// `y` is `x` with its halves turned into each other.
pub(super) struct Rotate<'a> {
    pub(super) x: &'a [f32],
    pub(super) cos: &'a [f32],
    pub(super) sin: &'a [f32],
    pub(super) y: &'a mut [f32],
}

impl Work for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Multiply>(self) {
        let half = self.cos.len();
        let ((a, b), (left, right)) = (self.x.split_at(half), self.y.split_at_mut(half));
        for ((left, (&a, &b)), (&cos, &sin)) in left.iter_mut().zip(a.iter().zip(b)).zip(self.cos.iter().zip(self.sin))
        {
            *left = M::add(a, cos, -(b * sin));
        }
        for ((right, (&a, &b)), (&cos, &sin)) in
            right.iter_mut().zip(a.iter().zip(b)).zip(self.cos.iter().zip(self.sin))
        {
            *right = M::add(b, cos, a * sin);
        }
    }
}

/// `y += factor * x`.
pub(super) struct AddScaled<'a> {
    pub(super) y: &'a mut [f32],
    pub(super) factor: f32,
    pub(super) x: &'a [f32],
}

impl Work for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<M: Multiply>(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = M::add(self.factor, x, *y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    struct Exp<'a>(&'a [f32]);

    impl Work for Exp<'_> {
        type Output = Vec<f32>;

        #[inline(always)]
        fn run<M: Multiply>(self) -> Vec<f32> {
            self.0.iter().map(|&x| exp::<M>(x)).collect()
        }
    }

    fn available() -> impl Iterator<Item = Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available())
    }

    #[test]
    fn exp_is_exact_to_the_last_bits_and_keeps_what_is_not_a_number() {
        let numbers: Vec<f32> = (-870_000..=880_000).map(|i| i as f32 * 1e-4).collect();
        for isa in available() {
            for (x, y) in numbers.iter().zip(run(isa, Exp(&numbers))) {
                let expected = f64::from(*x).exp();
                // Without fused products the reduction of x rounds once more.
                let error = (f64::from(y) / expected - 1.0).abs();
                assert!(error < 2.5e-7, "{isa:?}: exp({x}) = {y}, expected {expected}");
            }
            let odd = run(isa, Exp(&[f32::NEG_INFINITY, -1e9, f32::NAN, -f32::NAN, 0.0, f32::from_bits(0x7fc0_0001)]));
            assert_eq!((odd[0], odd[1], odd[4]), (0.0, 0.0, 1.0));
            assert!(odd[2].is_nan() && odd[3].is_nan() && odd[5].is_nan());
        }
    }

    #[test]
    fn scaled_sums() {
        for isa in available() {
            for count in [0, 1, 15, 16, 33] {
                let (mut y, x) = (fixture::values(count, 1), fixture::values(count, 2));
                let expected: Vec<f32> = y.iter().zip(&x).map(|(y, x)| y + 3.0 * x).collect();
                run(isa, AddScaled { y: &mut y, factor: 3.0, x: &x });
                fixture::assert_close(&y, &expected, 1e-6);
            }
        }
    }
}
