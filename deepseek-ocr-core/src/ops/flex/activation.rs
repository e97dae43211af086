//! Activations over slices, on one thread.
//!
//! Plain loops without branches, compiled for each instruction set, where they become vector code: Flex calls a scalar
//! `exp` or `erf` for each number, which takes 7 to 30 times as long.

use super::{
    isa::{Simd, Work},
    kernel::Kernel,
};

/// Beyond these `e^x` leaves the normal numbers.
const LOWEST: f32 = -87.33;
const HIGHEST: f32 = 88.37;

/// ln 2 in two parts: multiples of the first, up to 2^8 of them, are exact in f32.
const LN_2_HIGH: f32 = 355.0 / 512.0;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Added to a number below 2^22, this leaves the nearest integer in the low bits of the sum.
const ROUND: f32 = 12_582_912.0;

/// `e^r - 1 - r` over `r^2` for |r| up to half of ln 2: fitted with a relative error of 3.1e-9 of `e^r`.
const EXP: [f32; 5] = [0.499_999_94, 0.166_665_21, 0.041_668_39, 0.008_368_746, 0.001_381_454_2];

/// `erfc(z) e^(z^2)` over `t = 1 / (1 + T z)`, for z from 0 to 9.4: fitted with a relative error of 6.3e-8.
const T: f32 = 0.67;
const ERFC: [f32; 9] = [
    0.378_055_8,
    0.376_652_27,
    0.308_997_04,
    0.021_603_985,
    0.320_430_6,
    -1.115_870_1,
    1.149_403_6,
    -0.540_092_6,
    0.100_819_476,
];

/// CLIP's `quick_gelu`: `x sigmoid(1.702 x)`.
const QUICK_GELU: f32 = 1.702;

/// `1 / sqrt(2 pi)`.
#[cfg(feature = "autodiff")]
const INV_SQRT_2_PI: f32 = 0.398_942_3;

impl Kernel {
    /// `x = x (1 + erf(x / sqrt(2))) / 2`; within `4e-7 |x|`.
    pub fn gelu_erf(self, x: &mut [f32]) {
        self.map(Map { x, function: GeluErf });
    }

    /// `x = x sigmoid(1.702 x)`; within `4e-7 |x|`.
    pub fn quick_gelu(self, x: &mut [f32]) {
        self.map(Map { x, function: QuickGelu });
    }

    /// `gate = gate sigmoid(gate) up`; within `4e-7 |gate up|`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn silu_gate(self, gate: &mut [f32], up: &[f32]) {
        assert_eq!(gate.len(), up.len(), "each gate has a number to let through");
        self.map(SiluGate { gate, up });
    }

    /// `x` becomes what a slope of its `gelu_erf` makes of it: `x = slope (Phi(x) + x phi(x))`; within `1e-6 |slope|`.
    ///
    /// # Panics
    /// If the lengths differ.
    #[cfg(feature = "autodiff")]
    pub fn gelu_erf_slope(self, x: &mut [f32], slope: &[f32]) {
        assert_eq!(x.len(), slope.len(), "each number has a slope");
        self.map(GeluErfSlope { x, slope });
    }

    /// `gate` and `up` become what a slope of their `silu_gate` makes of them; within `1e-6 |slope|` times the other's magnitude and one.
    ///
    /// # Panics
    /// If the lengths differ.
    #[cfg(feature = "autodiff")]
    pub fn silu_gate_slopes(self, gate: &mut [f32], up: &mut [f32], slope: &[f32]) {
        assert!(
            gate.len() == up.len() && gate.len() == slope.len(),
            "each gate has a number to let through and a slope"
        );
        self.map(SiluGateSlopes { gate, up, slope });
    }

    /// The softmax of each row of `columns` numbers in place; within `4e-7` of the row's largest weight. Minus infinity weighs
    /// nothing; a row of nothing else becomes NaN, as it does elsewhere.
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn softmax_rows(self, x: &mut [f32], columns: usize) {
        assert!(columns > 0 && x.len().is_multiple_of(columns), "softmax works on whole rows of {columns} numbers");
        self.map(Softmax { x, columns });
    }

    fn map<W: Work>(self, work: W) -> W::Output {
        // SAFETY: a kernel's instruction set is available, and these works ask nothing else.
        unsafe { self.isa().run(work) }
    }
}

/// A function of one number.
trait Function: Copy {
    fn at<S: Simd>(self, x: f32) -> f32;
}

#[derive(Clone, Copy)]
struct GeluErf;

#[derive(Clone, Copy)]
struct QuickGelu;

struct Map<'a, F> {
    x: &'a mut [f32],
    function: F,
}

struct SiluGate<'a> {
    gate: &'a mut [f32],
    up: &'a [f32],
}

#[cfg(feature = "autodiff")]
struct GeluErfSlope<'a> {
    x: &'a mut [f32],
    slope: &'a [f32],
}

#[cfg(feature = "autodiff")]
struct SiluGateSlopes<'a> {
    gate: &'a mut [f32],
    up: &'a mut [f32],
    slope: &'a [f32],
}

struct Softmax<'a> {
    x: &'a mut [f32],
    columns: usize,
}

impl Function for GeluErf {
    #[inline(always)]
    fn at<S: Simd>(self, x: f32) -> f32 {
        x * normal::<S>(x).0
    }
}

impl Function for QuickGelu {
    #[inline(always)]
    fn at<S: Simd>(self, x: f32) -> f32 {
        x * sigmoid::<S>(QUICK_GELU * x)
    }
}

impl<F: Function> Work for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for x in self.x {
            *x = self.function.at::<S>(*x);
        }
    }
}

impl Work for SiluGate<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (gate, &up) in self.gate.iter_mut().zip(self.up) {
            *gate *= sigmoid::<S>(*gate) * up;
        }
    }
}

#[cfg(feature = "autodiff")]
impl Work for GeluErfSlope<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (x, &slope) in self.x.iter_mut().zip(self.slope) {
            let (below, bell) = normal::<S>(*x);
            // Where the bell is zero its argument may be infinite.
            let steep = if bell == 0.0 { 0.0 } else { *x * bell * INV_SQRT_2_PI };
            *x = slope * (below + steep);
        }
    }
}

#[cfg(feature = "autodiff")]
impl Work for SiluGateSlopes<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for ((gate, up), &slope) in self.gate.iter_mut().zip(self.up.iter_mut()).zip(self.slope) {
            let share = sigmoid::<S>(*gate);
            let silu = *gate * share;
            *gate = slope * *up * mul_add::<S>(silu, 1.0 - share, share);
            *up = slope * silu;
        }
    }
}

/// Partial results of a reduction: enough for four vectors of any instruction set.
const PARTS: usize = 64;

impl Work for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in self.x.chunks_exact_mut(self.columns) {
            let highest = reduce(row, f32::NEG_INFINITY, |a, b| if a > b { a } else { b });
            for x in row.iter_mut() {
                *x = exp::<S>(*x - highest);
            }
            let scale = 1.0 / reduce(row, 0.0, |a, b| a + b);
            row.iter_mut().for_each(|x| *x *= scale);
        }
    }
}

/// Reduces in [`PARTS`] lanes, which the compiler may not do by itself: it would change the order of a sum.
#[inline(always)]
fn reduce(numbers: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut parts = [start; PARTS];
    let (whole, rest) = numbers.as_chunks::<PARTS>();
    for numbers in whole {
        for (part, &number) in parts.iter_mut().zip(numbers) {
            *part = join(*part, number);
        }
    }
    for (part, &number) in parts.iter_mut().zip(rest) {
        *part = join(*part, number);
    }
    let mut count = PARTS;
    while count > 1 {
        count /= 2;
        for i in 0..count {
            parts[i] = join(parts[i], parts[i + count]);
        }
    }
    parts[0]
}

/// The standard normal distribution up to `x`, and `e^(-x^2 / 2)`. `erfc` of the magnitude keeps its relative precision in the negative
/// tail, where `1 + erf` cancels.
#[inline(always)]
fn normal<S: Simd>(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / mul_add::<S>(T, z, 1.0);
    let bell = exp::<S>(-(z * z));
    let half_erfc = 0.5 * t * polynomial::<S, 9>(ERFC, t) * bell;
    (if x < 0.0 { half_erfc } else { 1.0 - half_erfc }, bell)
}

#[inline(always)]
fn sigmoid<S: Simd>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<S>(-x))
}

/// `e^x` within two units in the last place; nothing below [`LOWEST`], no more than `e^HIGHEST`.
#[inline(always)]
fn exp<S: Simd>(x: f32) -> f32 {
    // Comparisons that a NaN fails, so that it stays one.
    let clamped = if x > HIGHEST { HIGHEST } else { x };
    let clamped = if clamped < LOWEST { LOWEST } else { clamped };
    let shifted = mul_add::<S>(clamped, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = mul_add::<S>(n, -LN_2_LOW, mul_add::<S>(n, -LN_2_HIGH, clamped));
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()));
    let e = mul_add::<S>(r * r, polynomial::<S, 5>(EXP, r), r) + 1.0;
    if x < LOWEST { 0.0 } else { e * power }
}

/// `c[0] + c[1] x + c[2] x^2 + ...`
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    coefficients.into_iter().rev().fold(0.0, |sum, coefficient| mul_add::<S>(sum, x, coefficient))
}

#[inline(always)]
fn mul_add<S: Simd>(a: f32, b: f32, c: f32) -> f32 {
    if S::FUSED { a.mul_add(b, c) } else { a * b + c }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Precision, flex::Isa};

    fn kernels() -> impl Iterator<Item = Kernel> {
        Isa::ALL.into_iter().filter_map(|isa| Kernel::on(isa, Precision::Exact))
    }

    /// All over -20..20, more of them near zero, and the odd ones out.
    fn arguments() -> Vec<f32> {
        let near = (-4000..=4000).map(|i| (i as f32 / 4000.0).powi(3) * 20.0);
        near.chain([0.0, -0.0, 1e-30, -1e-30, 90.0, -90.0, 1e30, -1e30]).collect()
    }

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    /// The complementary error function of a number that is not negative: its series, or its continued fraction.
    fn erfc(z: f64) -> f64 {
        if z > 3.0 {
            let fraction = (1..200).rev().fold(z, |fraction, k| z + f64::from(k) / 2.0 / fraction);
            return (-z * z).exp() / fraction / std::f64::consts::PI.sqrt();
        }
        let mut term = z;
        let mut sum = z;
        for n in 1..100 {
            term *= -z * z / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    fn gelu(x: f64) -> f64 {
        let tail = erfc(x.abs() / std::f64::consts::SQRT_2) / 2.0;
        x * if x < 0.0 { tail } else { 1.0 - tail }
    }

    /// The promise of every function here, and the smallest normal number for what underflows.
    fn assert_close(y: f32, expected: f64, scale: f64, of: &str) {
        let error = (f64::from(y) - expected).abs();
        assert!(error <= 4e-7 * scale.abs() + f64::from(f32::MIN_POSITIVE), "{of}: {y} for {expected}");
    }

    #[test]
    fn activations_are_those_of_f64() {
        for kernel in kernels() {
            let x = arguments();
            let mut y = x.clone();
            kernel.gelu_erf(&mut y);
            x.iter().zip(&y).for_each(|(&x, &y)| assert_close(y, gelu(x.into()), x.into(), &format!("gelu {x}")));
            y.copy_from_slice(&x);
            kernel.quick_gelu(&mut y);
            for (&x, &y) in x.iter().zip(&y) {
                let wide = f64::from(x);
                assert_close(y, wide * sigmoid(f64::from(QUICK_GELU) * wide), wide, &format!("quick_gelu {x}"));
            }
            y.copy_from_slice(&x);
            let up: Vec<f32> = x.iter().rev().map(|x| x.clamp(-9.0, 9.0)).collect();
            kernel.silu_gate(&mut y, &up);
            for ((&x, &up), &y) in x.iter().zip(&up).zip(&y) {
                let product = f64::from(x) * f64::from(up);
                assert_close(y, product * sigmoid(x.into()), product, &format!("silu {x} times {up}"));
            }
        }
    }

    #[cfg(feature = "autodiff")]
    #[test]
    fn slopes_are_those_of_f64() {
        let near = |y: f32, expected: f64, scale: f64, of: &str| {
            let error = (f64::from(y) - expected).abs();
            assert!(error <= 1e-6 * scale.abs() + f64::from(f32::MIN_POSITIVE), "{of}: {y} for {expected}");
        };
        for kernel in kernels() {
            let x = arguments();
            let up: Vec<f32> = x.iter().rev().map(|x| x.clamp(-9.0, 9.0)).collect();
            let mut y = x.clone();
            kernel.gelu_erf_slope(&mut y, &up);
            for ((&x, &slope), &y) in x.iter().zip(&up).zip(&y) {
                let (wide, slope) = (f64::from(x), f64::from(slope));
                let bell = (-wide * wide / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
                let below = if wide == 0.0 { 0.5 } else { gelu(wide) / wide };
                near(y, slope * (below + wide * bell), slope, &format!("gelu's slope at {x}"));
            }
            let (mut gates, mut ups) = (x.clone(), up.clone());
            let slopes: Vec<f32> = (0..x.len()).map(|i| ((i * 7919) % 1009) as f32 / 500.0 - 1.0).collect();
            kernel.silu_gate_slopes(&mut gates, &mut ups, &slopes);
            for (((&x, &up), &slope), (&gate, &to_up)) in x.iter().zip(&up).zip(&slopes).zip(gates.iter().zip(&ups)) {
                let (wide, up, slope) = (f64::from(x), f64::from(up), f64::from(slope));
                let share = sigmoid(wide);
                let steep = if wide.abs() > 100.0 { 0.0 } else { wide * share * (1.0 - share) };
                near(gate, slope * up * (share + steep), slope * (up.abs() + 1.0), &format!("silu's slope at {x}"));
                near(
                    to_up,
                    slope * wide * share,
                    slope * (wide.abs() + 1.0),
                    &format!("the slope of what {x} lets through"),
                );
            }
        }
    }

    #[test]
    fn softmax_is_that_of_f64() {
        for kernel in kernels() {
            for columns in [1, 2, 3, 15, 16, 17, 63, 64, 65, 200, 1000] {
                let x: Vec<f32> = (0..3 * columns).map(|i| ((i * 7919) % 1009) as f32 / 50.0 - 10.0).collect();
                let mut y = x.clone();
                kernel.softmax_rows(&mut y, columns);
                for (x, y) in x.chunks_exact(columns).zip(y.chunks_exact(columns)) {
                    let highest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    let weights: Vec<f64> = x.iter().map(|&x| (f64::from(x) - f64::from(highest)).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    for (&y, weight) in y.iter().zip(&weights) {
                        assert_close(y, weight / sum, 1.0 / sum, &format!("softmax of {columns}"));
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_masked_weighs_nothing() {
        for kernel in kernels() {
            let mut row = [1.0, f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY, -200.0];
            kernel.softmax_rows(&mut row, 5);
            assert_eq!(row, [0.5, 0.0, 0.5, 0.0, 0.0]);
        }
    }

    #[test]
    fn nan_stays_and_infinity_has_its_limit() {
        for kernel in kernels() {
            let mut x = [f32::NAN, f32::INFINITY, 3.0];
            kernel.gelu_erf(&mut x);
            assert!(x[0].is_nan() && x[1] == f32::INFINITY, "{x:?}");
            let mut x = [f32::NAN, f32::INFINITY, 3.0];
            kernel.silu_gate(&mut x, &[1.0; 3]);
            assert!(x[0].is_nan() && x[1] == f32::INFINITY, "{x:?}");
            let mut x = [0.0, f32::NAN, 1.0];
            kernel.softmax_rows(&mut x, 3);
            assert!(x.iter().all(|x| x.is_nan()), "{x:?}");
        }
    }
}
