//! Every instruction set against the definition, in f64.

use super::{Blocks, activations::SCALE, prepare, row_words};
use crate::{
    ops::{
        self, Precision,
        flex::{Isa, Kernel, Layer, Matrix, Weights},
    },
    quant::{BLOCK, BlockFormat, BlockWeight, pack},
};
use burn::{
    module::Param,
    tensor::{DType, Device, Tensor, TensorData},
};
use half::f16;

/// Numbers in -1..1.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

struct Packed {
    format: BlockFormat,
    levels: Vec<i32>,
    scales: Vec<f16>,
    /// What the blocks stand for.
    wide: Vec<f32>,
    outputs: usize,
    inputs: usize,
}

impl Packed {
    fn new(format: BlockFormat, [outputs, inputs]: [usize; 2]) -> Self {
        let weights = TensorData::new(numbers(outputs * inputs, 5), [outputs, inputs]);
        let packed = pack(&weights, format).expect("finite");
        let weight = BlockWeight::pack(&Param::from_data(weights, &Device::flex()), format);
        let wide = ops::reference::unpack(&weight).into_data().try_to_vec().expect("f32");
        let levels = packed.levels.try_to_vec().expect("words");
        let scales = packed.scales.try_to_vec().expect("f16");
        Self { format, levels, scales, wide, outputs, inputs }
    }

    fn matrix(&self) -> Matrix<'_> {
        Matrix::new(Weights::Blocks(Blocks::new(self.format, &self.levels, &self.scales)), self.outputs, self.inputs)
    }

    fn multiply(&self, kernel: Kernel, x: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / self.inputs * self.outputs];
        kernel.linear(x, self.matrix(), bias, &mut y);
        y
    }
}

fn kernels() -> impl Iterator<Item = Kernel> {
    Isa::ALL.into_iter().filter_map(|isa| Kernel::on(isa, Precision::Exact))
}

/// Activations as the kernels round them.
fn rounded(x: &[f32]) -> Vec<f64> {
    let block = |x: &[f32]| -> Vec<f64> {
        let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let scale = f64::from(largest / 127.0);
        x.iter().map(|x| f64::from((x * (127.0 / largest)).round_ties_even()) * scale).collect()
    };
    x.chunks(BLOCK).flat_map(block).collect()
}

fn check(format: BlockFormat, rows: usize, size: [usize; 2]) {
    let packed = Packed::new(format, size);
    let [outputs, inputs] = size;
    let (x, bias) = (numbers(rows * inputs, 3), numbers(outputs, 4));
    let levels = rounded(&x);
    for kernel in kernels() {
        for bias in [None, Some(bias.as_slice())] {
            let y = packed.multiply(kernel, &x, bias);
            for (at, y) in y.into_iter().enumerate() {
                let (row, output) = (at / outputs, at % outputs);
                let (x, w) = (&levels[row * inputs..][..inputs], &packed.wide[output * inputs..][..inputs]);
                let products = || x.iter().zip(w).map(|(x, &w)| x * f64::from(w));
                let bias = bias.map_or(0.0, |bias| f64::from(bias[output]));
                let sizes = products().map(f64::abs).sum::<f64>() + bias.abs();
                // A block's sum is exact; its scales' product, its own, and the sum of blocks round, and so does each weight.
                let tolerance = (inputs / BLOCK + 4) as f64 * 2.0 * 2f64.powi(-24) * sizes;
                let error = (f64::from(y) - products().sum::<f64>() - bias).abs();
                assert!(error <= tolerance, "{kernel:?} {format:?} {rows} {size:?} {at}: {error} > {tolerance}");
            }
        }
    }
}

#[test]
fn every_number_of_rows_panels_and_blocks() {
    for format in BlockFormat::ALL {
        for rows in [1, 2, 3, 5, 6, 7, 13, 50] {
            check(format, rows, [48, 96]);
        }
        for panels in [1, 2, 3, 4, 7] {
            check(format, 1, [16 * panels, 32]);
            check(format, 4, [16 * panels, 64]);
        }
        for blocks in [1, 2, 3, 11] {
            check(format, 5, [32, 32 * blocks]);
        }
    }
}

#[test]
fn several_tasks_of_rows_and_panels() {
    for format in BlockFormat::ALL {
        check(format, 1, [640, 1280]);
        check(format, 211, [80, 64]);
        check(format, 400, [16, 32]);
    }
}

#[test]
fn a_row_is_the_same_whatever_stands_beside_it_and_however_work_is_divided() {
    for format in BlockFormat::ALL {
        let packed = Packed::new(format, [112, 160]);
        let x = numbers(60 * 160, 8);
        for kernel in kernels() {
            let alone: Vec<f32> = x.chunks(160).flat_map(|x| packed.multiply(kernel, x, None)).collect();
            for rows in [2, 3, 4, 5, 6, 7, 8, 11, 16, 60] {
                let together = packed.multiply(kernel, &x[..rows * 160], None);
                assert_eq!(together, alone[..rows * 112], "{kernel:?} {format:?} {rows}");
            }
            let prepared = kernel.prepare(&x[..3 * 160], packed.matrix());
            for range in [0..16, 16..64, 64..112] {
                let mut strip = vec![0.0; 3 * range.len()];
                prepared.dot(packed.matrix().rows(range.clone()), &mut strip);
                for (row, strip) in strip.chunks(range.len()).enumerate() {
                    assert_eq!(strip, &alone[row * 112..][range.clone()], "{kernel:?} {format:?} {range:?}");
                }
            }
        }
    }
}

#[test]
fn instruction_sets_with_fused_multiply_add_agree_to_the_bit() {
    let kernels: Vec<Kernel> = kernels().filter(|kernel| kernel.isa() != Isa::Portable).collect();
    for format in BlockFormat::ALL {
        let packed = Packed::new(format, [64, 352]);
        let x = numbers(9 * 352, 2);
        for pair in kernels.windows(2) {
            assert_eq!(packed.multiply(pair[0], &x, None), packed.multiply(pair[1], &x, None), "{format:?}");
        }
    }
}

#[test]
fn activations_of_all_sizes() {
    for kernel in kernels() {
        for (size, scale) in [(0.0, 0.0), (1e-38, 0.0), (1e-20, 1e-20 / 127.0), (f32::MAX, f32::MAX / 127.0)] {
            let mut x = [0.0; BLOCK];
            x[7] = -size;
            // SAFETY: the kernel's instruction set is available.
            let words = unsafe { prepare(kernel.isa(), &x) };
            assert_eq!(words.len(), row_words(BLOCK));
            assert_eq!(f32::from_bits(words[SCALE]), scale, "{kernel:?} {size}");
            let level = if scale == 0.0 { 0 } else { -127i8 };
            assert_eq!(words[1].to_ne_bytes(), [0, 0, 0, level.cast_unsigned()], "{kernel:?} {size}");
        }
    }
}

#[test]
fn what_is_not_finite_shows_in_its_row_only() {
    for format in BlockFormat::ALL {
        let packed = Packed::new(format, [32, 64]);
        for kernel in kernels() {
            for (bad, at) in [(f32::NAN, 3), (f32::INFINITY, 40), (f32::NEG_INFINITY, 63)] {
                let mut x = numbers(3 * 64, 1);
                x[64 + at] = bad;
                let y = packed.multiply(kernel, &x, None);
                assert!(y[..32].iter().chain(&y[64..]).all(|y| y.is_finite()), "{kernel:?} {format:?} {bad}");
                assert!(y[32..64].iter().all(|y| y.is_nan()), "{kernel:?} {format:?} {bad}");
            }
        }
    }
}

#[test]
fn the_operation_is_near_its_reference() {
    let device = Device::flex();
    let tensor = |count: usize, seed| Tensor::<1>::from_floats(numbers(count, seed).as_slice(), &device);
    for format in BlockFormat::ALL {
        let weight = Param::from_tensor(tensor(48 * 320, 6).reshape([48, 320]));
        let weight = BlockWeight::pack(&weight, format);
        assert!(!weight.levels.is_initialized());
        let (x, bias) = (tensor(7 * 320, 7).reshape([320, 7]).transpose(), tensor(48, 8));
        let y = ops::block_linear(x.clone(), &weight, Some(bias.clone()));
        let expected = ops::reference::linear(x, ops::reference::unpack(&weight), Some(bias));
        let scale: f32 = expected.clone().square().mean().sqrt().into_scalar();
        let error: f32 = (y - expected).square().mean().sqrt().into_scalar();
        // The rounding of activations: evenly spread numbers in -1..1 lose 1 / (127 sqrt(12)) of a size of 1 / sqrt(3).
        assert!(error < 0.006 * scale, "{format:?}: {error} of {scale}");
    }
}

#[test]
fn layers_lend_their_blocks() {
    let device = Device::flex();
    let layer = crate::StoredLinearConfig::without_bias(64, 32).init(&device).with_weights(crate::Weights::Q4);
    let lent = Layer::of(&layer).expect("on the CPU");
    let matrix = lent.matrix();
    assert_eq!([matrix.outputs(), matrix.inputs(), matrix.step()], [32, 64, 16]);
    assert_eq!(matrix.bytes(), 32 * 64 / 2 + 32 * 64 / 32 * 2);
    let x = numbers(64, 9);
    let mut y = vec![0.0; 32];
    Kernel::new(Precision::Exact).linear(&x, matrix, None, &mut y);
    let x = Tensor::<1>::from_floats(x.as_slice(), &device).reshape([1, 1, 64]);
    let forward = layer.forward(x).into_data();
    assert_eq!((forward.dtype(), forward.try_to_vec::<f32>().expect("f32")), (DType::F32, y));
}

#[test]
#[should_panic(expected = "whole panels of 16")]
fn panels_are_not_divided() {
    let packed = Packed::new(BlockFormat::Q8, [32, 32]);
    packed.matrix().rows(0..8);
}
