//! CPU kernels over stored weights, on Flex's own buffers.
//!
//! [`Kernel::linear`] is a safe function on slices: other kernels (the routed experts of the decoder) call it, too. Few
//! rows stream the weights once, at the memory's speed (`dots`); many rows are packed into panels and tiles (`tiles`).
//! Both are written once over `Simd` (`isa.rs`) and compiled for each instruction set; the choice is made at run time.

#![allow(unsafe_code)]

#[cfg(not(target_arch = "x86_64"))]
mod absent;
mod activation;
#[cfg(feature = "autodiff")]
pub(super) mod attention;
mod avx2;
mod avx512;
mod blocks;
mod dots;
mod gemm;
pub mod isa;
mod kernel;
mod layer;
mod matrix;
mod peak;
mod portable;
mod prepared;
mod product;
mod scratch;
mod stored;
mod tiles;

pub use blocks::Blocks;
pub use isa::Isa;
pub use kernel::Kernel;
pub use layer::Layer;
pub use matrix::{Matrix, Weights};
pub use prepared::Prepared;

use super::Precision;
use crate::quant::BlockWeight;
use burn::{
    backend::Flex,
    tensor::{DType, Shape, Tensor},
};
use burn_flex::FlexTensor;
use half::{bf16, f16};

/// Rows up to which the portable kernels are used, which stream weights well and multiply slowly; for more Flex's own product,
/// in f32 and with vectors on every machine, makes good for widening the weights first.
const FEW_ROWS: usize = 20;

/// [`linear`](super::linear), or nothing where a tensor is not on Flex, is tracked by autodiff or has another type.
pub(super) fn linear(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    precision: Precision,
) -> Option<Tensor<2>> {
    let ([rows, inputs], [outputs, weight_inputs]) = (x.dims(), weight.dims());
    assert_eq!(inputs, weight_inputs, "a weight of {outputs} x {weight_inputs} takes as many inputs");
    if Isa::best() == Isa::Portable && rows > FEW_ROWS {
        return None;
    }
    let (x, weight) = (contiguous(x)?, contiguous(weight)?);
    let bias = match bias {
        Some(bias) => Some(contiguous(bias)?),
        None => None,
    };
    let bias = match &bias {
        Some(bias) => Some(bias.as_slice::<f32>()?),
        None => None,
    };
    let weight = Matrix::new(weights(&weight)?, outputs, inputs);
    let mut y = FlexTensor::empty(Shape::from([rows, outputs]), DType::F32);
    Kernel::new(precision).linear(x.as_slice::<f32>()?, weight, bias, y.storage_mut::<f32>());
    Some(Tensor::from_primitive::<Flex>(y))
}

/// [`block_linear`](super::block_linear), or nothing where a tensor is not on Flex, is tracked by autodiff or has another type.
pub(super) fn block_linear(x: &Tensor<2>, weight: &BlockWeight, bias: Option<&Tensor<1>>) -> Option<Tensor<2>> {
    let ([rows, inputs], [outputs, weight_inputs]) = (x.dims(), weight.dims());
    assert_eq!(inputs, weight_inputs, "a weight of {outputs} x {weight_inputs} takes as many inputs");
    let (x, layer) = (contiguous(x)?, Layer::of_blocks(weight)?);
    let bias = match bias {
        Some(bias) => Some(contiguous(bias)?),
        None => None,
    };
    let bias = match &bias {
        Some(bias) => Some(bias.as_slice::<f32>()?),
        None => None,
    };
    let mut y = FlexTensor::empty(Shape::from([rows, outputs]), DType::F32);
    Kernel::new(Precision::Exact).linear(x.as_slice::<f32>()?, layer.matrix(), bias, y.storage_mut::<f32>());
    Some(Tensor::from_primitive::<Flex>(y))
}

/// Plain code whose loops the compiler turns into vectors.
pub(crate) trait Loops {
    type Output;

    /// Implementations are `#[inline(always)]`, so that the code takes on the instruction set of its caller.
    fn run(self) -> Self::Output;
}

/// Runs plain code compiled for the best instruction set of this CPU.
pub(crate) fn vectorized<L: Loops>(loops: L) -> L::Output {
    struct Plain<L>(L);

    impl<L: Loops> isa::Work for Plain<L> {
        type Output = L::Output;

        #[inline(always)]
        unsafe fn run<S: isa::Simd>(self) -> L::Output {
            self.0.run()
        }
    }

    // SAFETY: the best instruction set is available, the work asks nothing else.
    unsafe { Isa::best().run(Plain(loops)) }
}

/// The tensor as it lies in Flex's memory, copied only if its rows do not lie one after the other.
fn contiguous<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    let tensor = tensor.clone().try_into_primitive::<Flex>().ok()?;
    Some(if tensor.layout().contiguous_offsets().is_some() { tensor } else { tensor.to_contiguous() })
}

fn weights(tensor: &FlexTensor) -> Option<Weights<'_>> {
    match tensor.dtype() {
        DType::BF16 => tensor.as_slice::<bf16>().map(Weights::Bf16),
        DType::F16 => tensor.as_slice::<f16>().map(Weights::F16),
        DType::F32 => tensor.as_slice::<f32>().map(Weights::F32),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::{Precision, linear_with, reference};
    use burn::tensor::{DType, Device, Distribution, Tensor, TensorData};

    fn random<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<D> {
        let device = Device::flex();
        let data: TensorData = Tensor::<D>::random(shape, Distribution::Uniform(-1.0, 1.0), &device).into_data();
        Tensor::from_data(data.convert_dtype(dtype), (&device, dtype))
    }

    /// `inputs` are at most 64, numbers at most 1: sums of f32 differ by at most `2 * 65 * 64 * 2^-24`.
    const EXACT: f64 = 5e-4;

    fn check(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        let expected = reference::linear(x.clone(), weight.clone(), bias.clone()).into_data();
        let y = linear_with(Precision::Exact, x, weight, bias).into_data();
        assert_eq!(y.shape(), expected.shape());
        let pairs = y.iter::<f64>().zip(expected.iter::<f64>());
        let error = pairs.map(|(y, expected)| (y - expected).abs()).fold(0.0, f64::max);
        assert!(error <= EXACT, "{error}");
    }

    #[test]
    fn every_type_of_weight_with_and_without_bias() {
        for dtype in [DType::BF16, DType::F16, DType::F32] {
            for rows in [0, 1, 5, 40] {
                let (x, weight) = (random([rows, 37], DType::F32), random([29, 37], dtype));
                check(x.clone(), weight.clone(), None);
                check(x, weight, Some(random([29], DType::F32)));
            }
        }
    }

    #[test]
    fn views_and_transposes() {
        for dtype in [DType::BF16, DType::F16, DType::F32] {
            for rows in [1, 40] {
                let x = random([64, rows], DType::F32).transpose();
                let weight = random([64, 50], dtype).transpose();
                check(x.clone(), weight.clone(), None);
                let (x, weight) = (x.slice([0..rows, 3..40]), weight.slice([7..30, 3..40]));
                check(x, weight, Some(random([30], DType::F32).slice(7..30)));
            }
        }
    }

    #[test]
    #[should_panic(expected = "takes as many inputs")]
    fn inputs_must_fit() {
        linear_with(Precision::Exact, random([2, 6], DType::F32), random([3, 4], DType::BF16), None);
    }
}
