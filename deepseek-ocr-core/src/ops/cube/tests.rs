//! Kernels against the reference, on whatever wgpu finds; a software Vulkan will do.

use super::{float, int, rows, tensor, weights};
use crate::ops::{Precision, linear, reference};
use burn::tensor::{DType, Device, DeviceKind, Distribution, FloatDType, Int, Tensor, TensorData};

/// `inputs` are at most 300, numbers at most 1: sums of f32 differ by at most `2 * 301 * 300 * 2^-24`, in practice by far less.
const EXACT: f32 = 2e-4;

fn gpu() -> Device {
    Device::wgpu(DeviceKind::DefaultDevice)
}

fn random<const D: usize>(shape: [usize; D], dtype: FloatDType) -> Tensor<D> {
    Tensor::<D>::random(shape, Distribution::Uniform(-1.0, 1.0), (&gpu(), DType::F32)).cast(dtype)
}

fn assert_near<const D: usize>(actual: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(actual.dims(), expected.dims());
    let worst = (actual - expected).abs().max().into_scalar::<f32>();
    assert!(worst <= EXACT, "{worst}");
}

fn dtypes() -> impl Iterator<Item = FloatDType> {
    let all = [FloatDType::F32, FloatDType::F16, FloatDType::BF16];
    all.into_iter().filter(|&dtype| gpu().supports_dtype(dtype))
}

#[test]
fn few_rows_of_any_size_and_type() {
    for dtype in dtypes() {
        for (rows, inputs, outputs) in [(1, 1, 1), (1, 128, 9), (3, 37, 29), (16, 130, 8), (5, 300, 65)] {
            let (x, weight) = (random([rows, inputs], FloatDType::F32), random([outputs, inputs], dtype));
            let expected = reference::linear(x.clone(), weight.clone(), None);
            assert!(super::linear(&x, &weight, None, Precision::Exact).is_some(), "no kernel ran");
            assert_near(linear(x.clone(), weight.clone(), None), expected.clone());
            let bias = random([outputs], FloatDType::F32);
            assert_near(linear(x, weight, Some(bias.clone())), expected + bias.unsqueeze());
        }
    }
}

#[test]
fn weights_are_read_where_they_lie() {
    let x = random([2, 64], FloatDType::F32);
    let wide = random([40, 300], FloatDType::F32);
    // Rows that lie apart, and columns.
    for weight in [wide.clone().slice([3..30, 64..128]), wide.clone().slice([0..40, 8..72]), wide.slice([0..40, 0..64])]
    {
        assert_near(linear(x.clone(), weight.clone(), None), reference::linear(x.clone(), weight, None));
    }
    let across = random([64, 33], FloatDType::F32).transpose();
    assert_near(linear(x.clone(), across.clone(), None), reference::linear(x, across, None));
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    let (x, weight) = (random([16, 300], FloatDType::F32), random([50, 300], FloatDType::F32));
    let together = linear(x.clone(), weight.clone(), None);
    for row in [0, 7, 15] {
        let alone = linear(x.clone().narrow(0, row, 1), weight.clone(), None);
        together.clone().narrow(0, row, 1).into_data().assert_eq(&alone.into_data(), true);
    }
}

#[test]
fn gathered_rows_take_the_matrix_of_their_number() {
    for dtype in dtypes() {
        for (share, inputs, outputs) in [(1, 37, 5), (3, 64, 29)] {
            let chosen = [4i32, 0, 2, 2, 1, 4];
            let x = random([chosen.len() / share, inputs], FloatDType::F32);
            let stacks: [Tensor<3>; 2] = std::array::from_fn(|_| random([5, outputs, inputs], dtype));
            let indices = Tensor::<1, Int>::from_data(TensorData::from(chosen), (&gpu(), DType::I32));
            let gather = || rows::Gather::new(int(&indices).expect("on a GPU"), share);
            let at = |x: &Tensor<2>| float(x, DType::F32).expect("on a GPU");
            let stack = |at: usize| weights(&stacks[at]).expect("on a GPU");
            let product = |at: usize| {
                let rows = chosen.iter().enumerate().map(|(row, &matrix)| {
                    let weight = stacks[at].clone().narrow(0, matrix as usize, 1).squeeze_dim(0);
                    reference::linear(x.clone().narrow(0, row / share, 1), weight, None)
                });
                Tensor::cat(rows.collect(), 0)
            };
            let (gate, up) = (product(0), product(1));
            assert_near(tensor(rows::products(&at(&x), &stack(0), &gather())), gate.clone());
            let expected = burn::tensor::activation::silu(gate) * up;
            assert_near(tensor(rows::gated(&at(&x), [&stack(0), &stack(1)], &gather())), expected);
        }
    }
}
