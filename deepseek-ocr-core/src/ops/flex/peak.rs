//! What a core multiplies at most: the inner loop of a product without a product's memory.

use super::{
    isa::{Simd, Work},
    kernel::{Kernel, Way},
    product::{Exact, Pair, Pairs, Product},
    stored::Stored,
};
use half::{bf16, f16};
use std::{hint::black_box, marker::PhantomData};

impl Kernel {
    /// Repeats one step of a product's tile with bf16 weights in the first cache, on this thread, and counts the operations:
    /// over the time that it takes this is the rate that benches hold products against.
    pub fn spin(self, steps: usize) -> f64 {
        // More rows than one: with one, no kernel rounds.
        let way = self.way(super::Weights::Bf16(&[]), 2);
        // SAFETY: a kernel's instruction set is available.
        unsafe {
            match way {
                Way::Pairs => self.isa().run(Spin::<Pairs> { steps, product: PhantomData }),
                Way::Bf16 => self.isa().run(Spin::<Exact<bf16>> { steps, product: PhantomData }),
                Way::F16 => self.isa().run(Spin::<Exact<f16>> { steps, product: PhantomData }),
                Way::F32 => self.isa().run(Spin::<Exact<f32>> { steps, product: PhantomData }),
                Way::Blocks => unreachable!("bf16 is no format of blocks"),
            }
        }
    }
}

struct Spin<P> {
    steps: usize,
    product: PhantomData<P>,
}

impl<P: Product> Work for Spin<P> {
    type Output = f64;

    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> f64 {
        // SAFETY: passed on to the caller.
        unsafe {
            match S::TILE_ROWS {
                12 => self.repeat::<S, 12>(),
                5 => self.repeat::<S, 5>(),
                _ => self.repeat::<S, 6>(),
            }
        }
    }
}

impl<P: Product> Spin<P> {
    #[inline(always)]
    unsafe fn repeat<S: Simd, const ROWS: usize>(self) -> f64 {
        let x = vec![0u32; ROWS * P::STEP_WORDS];
        let w = vec![0u32; 2 * S::LANES * P::Weight::STEP_WORDS];
        // SAFETY: both buffers hold one step.
        unsafe {
            let mut acc: [Pair<S>; ROWS] = [[S::zero(); 2]; ROWS];
            let (x, w) = (black_box(x.as_ptr()), black_box(w.as_ptr()));
            for _ in 0..self.steps {
                // What lies behind the pointers could have changed, so that each step reads it.
                P::step::<S, ROWS>(black_box(x), black_box(w), &mut acc);
            }
            let total = acc.iter().fold(S::zero(), |sum, pair| S::add(sum, S::add(pair[0], pair[1])));
            black_box(S::sum(total));
        }
        // A multiplication and an addition for each of two numbers in each place of the tile.
        (self.steps * ROWS * 2 * S::LANES * 4) as f64
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::{
        Precision,
        flex::{Isa, Kernel},
    };

    #[test]
    fn operations_are_counted() {
        for kernel in Isa::ALL.into_iter().filter_map(|isa| Kernel::on(isa, Precision::Exact)) {
            assert_eq!(kernel.spin(20), 20.0 * kernel.spin(1));
        }
        let portable = Kernel::on(Isa::Portable, Precision::Exact).map(|kernel| kernel.spin(1));
        assert_eq!(portable, Some((6 * 8 * 2 * 2) as f64));
    }
}
