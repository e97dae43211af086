//! What packing keeps and what it loses.

use super::*;
use crate::{ops::reference, quant::BlockWeight};
use burn::{
    module::Param,
    tensor::{Device, Tensor},
};
use half::bf16;

/// Numbers that are nearly normal: sums of twelve even ones.
fn normal(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut even = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (0..12).map(|_| even()).sum::<f32>() - 6.0).collect()
}

fn round_trip(numbers: &[f32], size: [usize; 2], format: BlockFormat) -> Vec<f32> {
    let weight = Param::from_data(TensorData::new(numbers.to_vec(), size), &Device::flex());
    reference::unpack(&BlockWeight::pack(&weight, format)).into_data().try_to_vec().expect("f32")
}

/// The root of the mean square of the error, relative to that of the numbers.
fn error(numbers: &[f32], restored: &[f32]) -> f64 {
    let square = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| f64::from(x * x)).sum::<f64>();
    let difference = square(&mut numbers.iter().zip(restored).map(|(a, b)| a - b));
    (difference / square(&mut numbers.iter().copied())).sqrt()
}

#[test]
fn normal_numbers_lose_what_is_promised() {
    let numbers = normal(256 * 128);
    for (format, promised) in [(BlockFormat::Q8, 0.0055), (BlockFormat::Q4, 0.0745)] {
        let lost = error(&numbers, &round_trip(&numbers, [256, 128], format));
        assert!(lost < promised && lost > promised * 0.9, "{format:?} {lost}");
    }
}

#[test]
fn every_number_is_within_half_a_step_of_its_place() {
    // A ramp shows a level that landed in another place.
    let numbers: Vec<f32> = (0..48 * 96).map(|i| (i * 31 % 4608) as f32 - 2304.0).collect();
    let restored = round_trip(&numbers, [48, 96], BlockFormat::Q8);
    for (number, restored) in numbers.iter().zip(restored) {
        assert!((number - restored).abs() <= 2304.0 / 127.0 * 0.51, "{number} {restored}");
    }
    let restored = round_trip(&numbers, [48, 96], BlockFormat::Q4);
    for (number, restored) in numbers.iter().zip(restored) {
        // The widest gap between levels is 27; the scale was fitted, not chosen for this.
        assert!((number - restored).abs() <= 2304.0 * 0.3, "{number} {restored}");
    }
}

#[test]
fn numbers_on_levels_are_kept() {
    let numbers: Vec<f32> = (0..16 * 64).map(|i| f32::from(LEVELS[(i * 7 + i / 32) % 16]) * 0.25).collect();
    assert_eq!(round_trip(&numbers, [16, 64], BlockFormat::Q4), numbers);
    let whole: Vec<f32> = (0..16 * 32).map(|i| if i % 32 == 0 { 127.0 } else { (i % 255) as f32 - 127.0 }).collect();
    assert_eq!(round_trip(&whole, [16, 32], BlockFormat::Q8), whole);
}

#[test]
fn very_small_and_very_large_numbers_stay_in_range() {
    for format in BlockFormat::ALL {
        for size in [0.0, 1e-30, 1e-7, 1e-5, 1e-4, 1e6, 1e30] {
            let numbers: Vec<f32> = normal(16 * 32).into_iter().map(|number| number / 6.0 * size).collect();
            let restored = round_trip(&numbers, [16, 32], format);
            // Scales are multiples of 2^-24; from 65504 * 127 on they are at their limit.
            let slack = 127.0 * 2f32.powi(-25) + if size > 8e6 { size } else { 0.07 * size };
            let close = |(a, b): (&f32, &f32)| b.is_finite() && (a - b).abs() <= slack.max(0.15 * size);
            assert!(numbers.iter().zip(&restored).all(close), "{format:?} {size}");
        }
    }
}

#[test]
fn what_is_not_finite_is_named() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut numbers = normal(32 * 64);
        numbers[1234] = bad;
        let data = TensorData::new(numbers, [32, 64]);
        assert_eq!(pack(&data, BlockFormat::Q4).expect_err("not finite"), 1234);
    }
}

#[test]
fn all_types_of_floats_are_read() {
    let numbers: Vec<f32> =
        normal(16 * 32).into_iter().map(|x| bf16::from_f32(f16::from_f32(x).to_f32()).to_f32()).collect();
    let wide = TensorData::new(numbers, [16, 32]);
    for format in BlockFormat::ALL {
        let expected = pack(&wide, format).expect("finite");
        for dtype in [DType::BF16, DType::F16] {
            let packed = pack(&wide.clone().convert_dtype(dtype), format).expect("finite");
            assert_eq!((packed.levels, packed.scales), (expected.levels.clone(), expected.scales.clone()));
        }
    }
}

#[test]
fn drawn_weights_are_packed_when_they_are_used() {
    let layer = crate::StoredLinearConfig::without_bias(64, 32).init(&Device::flex());
    let layer = layer.with_weights(crate::Weights::Q8);
    assert!(!layer.weight.is_initialized());
    let y = layer.forward(Tensor::<2>::ones([1, 64], &Device::flex()));
    assert!(layer.weight.is_initialized());
    assert_eq!(y.dims(), [1, 32]);
}

#[test]
fn matrices_that_are_no_whole_blocks_stay() {
    for (inputs, outputs) in [(48, 32), (32, 24)] {
        let layer = crate::StoredLinearConfig::new(inputs, outputs).init(&Device::flex());
        let layer = layer.with_weights(crate::Weights::Q8);
        assert!(matches!(layer.weight, crate::LinearWeight::Stored(_)), "{inputs} {outputs}");
    }
}
