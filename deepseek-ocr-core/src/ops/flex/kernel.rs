//! The products as safe functions on slices.

use super::{
    blocks,
    gemm::Gemm,
    isa::Isa,
    matrix::{Matrix, Weights},
    product::{Exact, Pairs, Product},
};
use crate::ops::Precision;
use half::{bf16, f16};

/// An instruction set with a precision: all that a product needs to know besides its operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    isa: Isa,
    precision: Precision,
    steady: bool,
}

/// The products that a kernel chooses from: pairs of bf16, or exact ones with weights of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Pairs,
    Bf16,
    F16,
    F32,
    Blocks,
}

/// Rows up to which weights are used as they are read; with more it pays to pack them (measured on Zen 4: 16 rows of 1280 with
/// `lm_head` take 34 ms instead of 43, 20 rows 42 instead of 52, with bf16; the same way for f32).
const FEW_ROWS: usize = 20;

impl Kernel {
    /// For the best instruction set of this CPU.
    pub fn new(precision: Precision) -> Self {
        Self { isa: Isa::best(), precision, steady: false }
    }

    /// For a given instruction set, if this CPU has it.
    pub fn on(isa: Isa, precision: Precision) -> Option<Self> {
        isa.is_available().then_some(Self { isa, precision, steady: false })
    }

    /// The same with exact products and an order of summing that does not depend on the number of rows: what a row gives is the
    /// same to the bit whichever rows stand beside it.
    pub fn steady(self) -> Self {
        Self { precision: Precision::Exact, steady: true, ..self }
    }

    /// The instruction set.
    pub fn isa(self) -> Isa {
        self.isa
    }

    /// `y = x W^T + b` over all threads of the current rayon pool.
    ///
    /// # Shapes
    /// - `x`: `[rows, inputs]`
    /// - `weights`: `[outputs, inputs]`
    /// - `bias`: `[outputs]`
    /// - `y`: `[rows, outputs]`
    ///
    /// # Panics
    /// If the lengths differ from these.
    pub fn linear(self, x: &[f32], weights: Matrix<'_>, bias: Option<&[f32]>, y: &mut [f32]) {
        let (outputs, inputs) = (weights.outputs(), weights.inputs());
        let rows = y.len().checked_div(outputs).unwrap_or(0);
        assert_eq!(y.len(), rows * outputs, "the output has whole rows");
        assert!(outputs == 0 || x.len() == rows * inputs, "each output row has a row of {inputs} inputs");
        assert!(bias.is_none_or(|bias| bias.len() == outputs), "the bias has one number for each of {outputs} outputs");
        if inputs == 0 {
            return fill(bias, y);
        }
        match (self.way(weights.weights(), rows), weights.weights()) {
            (Way::Pairs, Weights::Bf16(w)) => self.run::<Pairs>(x, rows, (w, inputs), bias, y),
            (_, Weights::Bf16(w)) => self.run::<Exact<bf16>>(x, rows, (w, inputs), bias, y),
            (_, Weights::F16(w)) => self.run::<Exact<f16>>(x, rows, (w, inputs), bias, y),
            (_, Weights::F32(w)) => self.run::<Exact<f32>>(x, rows, (w, inputs), bias, y),
            (_, Weights::Blocks(w)) => {
                let product = blocks::Product { isa: self.isa, x, inputs, blocks: w, bias };
                // SAFETY: a kernel's instruction set is available; the lengths were compared, here and for the matrix.
                unsafe { product.multiply(y) }
            }
        }
    }

    /// How this kernel multiplies `rows` rows with such weights.
    pub(super) fn way(self, weights: Weights<'_>, rows: usize) -> Way {
        let pairs = self.isa == Isa::Avx512Bf16 && self.precision == Precision::Bf16 && rows > 1;
        match weights {
            Weights::Bf16(_) if pairs => Way::Pairs,
            Weights::Bf16(_) => Way::Bf16,
            Weights::F16(_) => Way::F16,
            Weights::F32(_) => Way::F32,
            Weights::Blocks(_) => Way::Blocks,
        }
    }

    fn run<P: Product>(
        self,
        x: &[f32],
        rows: usize,
        (weights, inputs): (&[P::Weight], usize),
        bias: Option<&[f32]>,
        y: &mut [f32],
    ) {
        let gemm = Gemm::<P> { isa: self.isa, x, rows, weights, inputs, bias };
        if y.is_empty() {
            return;
        }
        // SAFETY: a kernel's instruction set is available, and `linear` compared the lengths.
        unsafe { if self.steady || rows <= FEW_ROWS { gemm.stream(y) } else { gemm.multiply(y) } }
    }
}

/// A sum over no inputs.
fn fill(bias: Option<&[f32]>, y: &mut [f32]) {
    match bias {
        Some(bias) if !bias.is_empty() => y.chunks_exact_mut(bias.len()).for_each(|row| row.copy_from_slice(bias)),
        _ => y.fill(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes around the steps of every instruction set.
    const SIZES: [usize; 11] = [1, 2, 3, 5, 8, 17, 31, 63, 64, 65, 130];

    /// Numbers in -1..1 that the given type holds.
    fn numbers(count: usize, seed: u64) -> impl Iterator<Item = f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..count).map(move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
    }

    struct Case {
        rows: usize,
        inputs: usize,
        outputs: usize,
    }

    /// Compares with sums in f64; `rounding` is what the activations may lose, relative to them.
    fn check(kernel: Kernel, case: &Case, weights: Weights<'_>, rounding: f64) {
        let &Case { rows, inputs, outputs } = case;
        let wide: Vec<f32> = match weights {
            Weights::Bf16(w) => w.iter().map(|w| w.to_f32()).collect(),
            Weights::F16(w) => w.iter().map(|w| w.to_f32()).collect(),
            Weights::F32(w) => w.to_vec(),
            Weights::Blocks(_) => unreachable!("blocks have tests of their own"),
        };
        let x: Vec<f32> = numbers(rows * inputs, 3).collect();
        let bias: Vec<f32> = numbers(outputs, 4).collect();
        for bias in [None, Some(bias.as_slice())] {
            let mut y = vec![f32::NAN; rows * outputs];
            kernel.linear(&x, Matrix::new(weights, outputs, inputs), bias, &mut y);
            for (at, &y) in y.iter().enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                let (x, w) = (&x[row * inputs..][..inputs], &wide[output * inputs..][..inputs]);
                let products = || x.iter().zip(w).map(|(&x, &w)| f64::from(x) * f64::from(w));
                let bias = bias.map_or(0.0, |bias| f64::from(bias[output]));
                let sum_of_sizes = products().map(f64::abs).sum::<f64>() + bias.abs();
                // Each of the sum's steps rounds twice at most: product and sum.
                let tolerance = ((inputs + 1) as f64 * 2.0 * 2f64.powi(-24) + rounding) * sum_of_sizes;
                let error = (f64::from(y) - products().sum::<f64>() - bias).abs();
                assert!(
                    error <= tolerance,
                    "{kernel:?} {rows}x{inputs}x{outputs} at {row},{output}: {error} > {tolerance}"
                );
            }
        }
    }

    fn check_all(case: &Case) {
        let wide: Vec<f32> = numbers(case.outputs * case.inputs, 5).collect();
        let brain: Vec<bf16> = wide.iter().map(|&w| bf16::from_f32(w)).collect();
        let half: Vec<f16> = wide.iter().map(|&w| f16::from_f32(w)).collect();
        for isa in Isa::ALL {
            if let Some(exact) = Kernel::on(isa, Precision::Exact) {
                check(exact, case, Weights::Bf16(&brain), 0.0);
                check(exact, case, Weights::F16(&half), 0.0);
                check(exact, case, Weights::F32(&wide), 0.0);
            }
            if let Some(rounded) = Kernel::on(isa, Precision::Bf16) {
                // Half a unit in the last of 8 bits.
                check(rounded, case, Weights::Bf16(&brain), 2f64.powi(-8));
            }
        }
    }

    #[test]
    fn every_size_in_each_dimension() {
        for size in SIZES {
            for other in [3, 37] {
                check_all(&Case { rows: size, inputs: other, outputs: other + 2 });
                check_all(&Case { rows: other, inputs: size, outputs: other + 2 });
                check_all(&Case { rows: other, inputs: other + 2, outputs: size });
            }
        }
    }

    #[test]
    fn several_tasks_of_rows_and_columns() {
        check_all(&Case { rows: 211, inputs: 70, outputs: 300 });
        check_all(&Case { rows: 4, inputs: 300, outputs: 700 });
        check_all(&Case { rows: 1, inputs: 1000, outputs: 1001 });
    }

    #[test]
    fn several_chunks_of_rows() {
        // Rows long enough that few of them fill the packed activations.
        check_all(&Case { rows: 130, inputs: 50_000, outputs: 2 });
    }

    #[test]
    fn nothing_gives_nothing_or_the_bias() {
        let kernel = Kernel::new(Precision::Exact);
        kernel.linear(&[], Matrix::new(Weights::F32(&[0.0; 6]), 2, 3), None, &mut []);
        kernel.linear(&[1.0, 2.0], Matrix::new(Weights::F32(&[]), 0, 2), None, &mut []);
        let mut y = [7.0; 4];
        kernel.linear(&[], Matrix::new(Weights::F32(&[]), 2, 0), Some(&[1.0, 2.0]), &mut y);
        assert_eq!(y, [1.0, 2.0, 1.0, 2.0]);
        kernel.linear(&[], Matrix::new(Weights::F32(&[]), 2, 0), None, &mut y);
        assert_eq!(y, [0.0; 4]);
    }

    #[test]
    fn infinities_and_nans_stay() {
        for isa in Isa::ALL {
            for precision in [Precision::Exact, Precision::Bf16] {
                let Some(kernel) = Kernel::on(isa, precision) else { continue };
                for rows in [1, 3, 40] {
                    let mut x = vec![1.0; rows * 40];
                    x[2] = f32::INFINITY;
                    x[(rows - 1) * 40 + 3] = f32::NAN;
                    let mut y = vec![0.0; rows * 2];
                    let weights = [bf16::ONE; 80];
                    kernel.linear(&x, Matrix::new(Weights::Bf16(&weights), 2, 40), None, &mut y);
                    assert!(rows == 1 || y[0] == f32::INFINITY && y[1] == f32::INFINITY, "{kernel:?} {rows}");
                    assert!(y[rows * 2 - 1].is_nan(), "{kernel:?} {rows}");
                }
            }
        }
    }

    #[test]
    fn products_within_products_share_no_buffer() {
        let weights: Vec<bf16> = numbers(64 * 48, 6).map(bf16::from_f32).collect();
        let x: Vec<f32> = numbers(40 * 48, 7).collect();
        let product = || {
            let mut y = vec![0.0; 40 * 64];
            let matrix = Matrix::new(Weights::Bf16(&weights), 64, 48);
            Kernel::new(Precision::Exact).linear(&x, matrix, None, &mut y);
            y
        };
        let alone = product();
        use rayon::prelude::*;
        (0..64).into_par_iter().for_each(|_| assert_eq!(product(), alone));
    }
}
