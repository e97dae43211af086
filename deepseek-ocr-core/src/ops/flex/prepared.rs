//! Few rows, strip by strip: for kernels that divide their work themselves and fuse what follows a product.

use super::{
    blocks,
    dots::{Dots, Prepare},
    kernel::{Kernel, Way},
    matrix::{Matrix, Weights},
    product::{Exact, Pairs, Product},
};
use half::{bf16, f16};
use std::marker::PhantomData;

/// Rows of activations laid out for products with one type of weights, made once and used for many strips.
#[derive(Clone, Debug)]
pub struct Prepared {
    kernel: Kernel,
    way: Way,
    words: Vec<u32>,
    rows: usize,
    inputs: usize,
}

impl Kernel {
    /// Lays out `x`, `[rows, inputs]`, for products with weights like `weights`.
    ///
    /// # Panics
    /// If `x` is not whole rows of the matrix's inputs, or if it has none.
    pub fn prepare(self, x: &[f32], weights: Matrix<'_>) -> Prepared {
        let inputs = weights.inputs();
        assert!(inputs > 0 && x.len().is_multiple_of(inputs), "activations are whole rows of {inputs} inputs");
        let rows = x.len() / inputs;
        let way = self.way(weights.weights(), rows);
        // SAFETY: a kernel's instruction set is available.
        let words = unsafe {
            match way {
                Way::Pairs => self.isa().run(Prepare::<Pairs> { x, inputs, product: PhantomData }),
                Way::Bf16 => self.isa().run(Prepare::<Exact<bf16>> { x, inputs, product: PhantomData }),
                Way::F16 => self.isa().run(Prepare::<Exact<f16>> { x, inputs, product: PhantomData }),
                Way::F32 => self.isa().run(Prepare::<Exact<f32>> { x, inputs, product: PhantomData }),
                Way::Blocks => blocks::prepare(self.isa(), x),
            }
        };
        Prepared { kernel: self, way, words, rows, inputs }
    }
}

impl Prepared {
    /// Rows of activations.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// `y = x W^T` on this thread: meant for few rows of activations, and as many rows of weights as make a task.
    ///
    /// # Shapes
    /// - `weights`: `[outputs, inputs]`, in the type that this was prepared for
    /// - `y`: `[rows, outputs]`
    ///
    /// # Panics
    /// If type or lengths differ from these.
    pub fn dot(&self, weights: Matrix<'_>, y: &mut [f32]) {
        assert_eq!(weights.inputs(), self.inputs, "prepared for another number of inputs");
        assert_eq!(y.len(), self.rows * weights.outputs(), "the output has a row for each row of activations");
        match (self.way, weights.weights()) {
            (Way::Pairs, Weights::Bf16(w)) => self.run::<Pairs>(w, y),
            (Way::Bf16, Weights::Bf16(w)) => self.run::<Exact<bf16>>(w, y),
            (Way::F16, Weights::F16(w)) => self.run::<Exact<f16>>(w, y),
            (Way::F32, Weights::F32(w)) => self.run::<Exact<f32>>(w, y),
            (Way::Blocks, Weights::Blocks(w)) => {
                // SAFETY: a kernel's instruction set is available; the words were prepared for it and for blocks of as many inputs.
                unsafe { blocks::dot(self.kernel.isa(), &self.words, w, self.inputs, y) }
            }
            (way, _) => panic!("activations prepared for weights of type {way:?} meet others"),
        }
    }

    fn run<P: Product>(&self, weights: &[P::Weight], y: &mut [f32]) {
        let Self { rows, inputs, .. } = *self;
        let stride = weights.len() / inputs;
        let dots = Dots::<P> { x: &self.words, rows, weights, inputs, y: y.as_mut_ptr(), stride };
        // SAFETY: a kernel's instruction set is available; the words were prepared for it, the product and the inputs; `dot`
        // compared the lengths.
        unsafe { self.kernel.isa().run(dots) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Precision, flex::Isa};

    #[test]
    fn strips_together_are_the_product() {
        let (rows, inputs, outputs) = (3, 70, 10);
        let x: Vec<f32> = (0..rows * inputs).map(|i| (i * 37 % 101) as f32 / 101.0 - 0.5).collect();
        let brain: Vec<bf16> =
            (0..outputs * inputs).map(|i| bf16::from_f32((i * 53 % 97) as f32 / 97.0 - 0.5)).collect();
        let half: Vec<f16> = brain.iter().map(|w| f16::from_f32(w.to_f32())).collect();
        let wide: Vec<f32> = brain.iter().map(|w| w.to_f32()).collect();
        for isa in Isa::ALL {
            for precision in [Precision::Exact, Precision::Bf16] {
                let Some(kernel) = Kernel::on(isa, precision) else { continue };
                for weights in [Weights::Bf16(&brain), Weights::F16(&half), Weights::F32(&wide)] {
                    let matrix = Matrix::new(weights, outputs, inputs);
                    let mut whole = vec![0.0; rows * outputs];
                    kernel.linear(&x, matrix, None, &mut whole);
                    let prepared = kernel.prepare(&x, matrix);
                    for range in [0..4, 4..5, 5..10] {
                        let mut strip = vec![0.0; rows * range.len()];
                        prepared.dot(matrix.rows(range.clone()), &mut strip);
                        for (row, strip) in strip.chunks_exact(range.len()).enumerate() {
                            for (&strip, &whole) in strip.iter().zip(&whole[row * outputs..][range.clone()]) {
                                // Both are the same sum in another order at most: 70 terms below 1/4.
                                assert!(
                                    (strip - whole).abs() < 70.0 * 17.5 * 2f32.powi(-24),
                                    "{kernel:?} {strip} {whole}"
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_whatever_stands_beside_it() {
        let (inputs, outputs) = (150, 7);
        let x: Vec<f32> = (0..6 * inputs).map(|i| (i * 37 % 101) as f32 / 101.0 - 0.5).collect();
        let brain: Vec<bf16> =
            (0..outputs * inputs).map(|i| bf16::from_f32((i * 53 % 97) as f32 / 97.0 - 0.5)).collect();
        let matrix = Matrix::new(Weights::Bf16(&brain), outputs, inputs);
        for kernel in Isa::ALL.into_iter().filter_map(|isa| Kernel::on(isa, Precision::Exact)) {
            let mut alone = vec![0.0; outputs];
            kernel.prepare(&x[..inputs], matrix).dot(matrix, &mut alone);
            for rows in 2..=6 {
                let mut together = vec![0.0; rows * outputs];
                kernel.prepare(&x[..rows * inputs], matrix).dot(matrix, &mut together);
                assert_eq!(together[..outputs], alone, "{kernel:?} {rows}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "meet others")]
    fn another_type_is_refused() {
        let kernel = Kernel::new(Precision::Exact);
        let prepared = kernel.prepare(&[1.0], Matrix::new(Weights::F32(&[1.0]), 1, 1));
        prepared.dot(Matrix::new(Weights::Bf16(&[bf16::ONE]), 1, 1), &mut [0.0]);
    }
}
