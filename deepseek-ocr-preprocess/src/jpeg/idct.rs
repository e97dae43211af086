//! The inverse cosine transform, in whole numbers: libjpeg's accurate one (jidctint.c), to the bit.

use super::header::{BLOCK, Component, SIDE, Steps};
use rayon::prelude::*;

/// Fraction bits of the constants, and those that the first pass keeps.
const BITS: u32 = 13;
const PASS_BITS: u32 = 2;

/// `value * 2^13`, rounded.
const fn fixed(value: f64) -> i32 {
    (value * (1 << BITS) as f64 + 0.5) as i32
}

/// The samples of all blocks of a component from their coefficients.
pub(super) fn render(component: &mut Component) {
    let stride = component.stride();
    component.samples = vec![0; component.coefficients.len() * BLOCK];
    // A component that no scan brought has no steps, and no coefficients either.
    let steps = component.steps.unwrap_or([1; BLOCK]);
    if stride == 0 {
        return;
    }
    let rows = component.samples.par_chunks_mut(stride * SIDE);
    rows.zip(component.coefficients.par_chunks(component.blocks_across)).for_each(|(samples, blocks)| {
        for (x, coefficients) in blocks.iter().enumerate() {
            block(coefficients, &steps, &mut samples[x * SIDE..], stride);
        }
    });
    component.coefficients = Vec::new();
}

/// Writes the 8 x 8 samples of a block to rows of `stride`.
#[inline(always)]
pub(super) fn block(coefficients: &[i16; BLOCK], steps: &Steps, samples: &mut [u8], stride: usize) {
    let mut rows = [[0; SIDE]; SIDE];
    for ((value, &coefficient), &step) in rows.as_flattened_mut().iter_mut().zip(coefficients).zip(steps) {
        *value = i32::from(coefficient).wrapping_mul(i32::from(step));
    }
    if coefficients[1..] == [0; BLOCK - 1] {
        rows = [[rows[0][0].wrapping_shl(PASS_BITS).wrapping_add(1 << (PASS_BITS + 2)) >> (PASS_BITS + 3); SIDE]; SIDE];
    } else {
        let columns = transform(transposed(transform(rows, BITS - PASS_BITS)), BITS + PASS_BITS + 3);
        rows = transposed(columns);
    }
    for (y, row) in rows.iter().enumerate() {
        for (sample, value) in samples[y * stride..][..SIDE].iter_mut().zip(row) {
            *sample = value.wrapping_add(128).clamp(0, 255) as u8;
        }
    }
}

/// Eight values that go through the same steps.
type Lanes = [i32; SIDE];

#[inline(always)]
fn transposed(rows: [Lanes; SIDE]) -> [Lanes; SIDE] {
    std::array::from_fn(|x| std::array::from_fn(|y| rows[y][x]))
}

#[inline(always)]
fn add(a: Lanes, b: Lanes) -> Lanes {
    std::array::from_fn(|i| a[i].wrapping_add(b[i]))
}

#[inline(always)]
fn sub(a: Lanes, b: Lanes) -> Lanes {
    std::array::from_fn(|i| a[i].wrapping_sub(b[i]))
}

#[inline(always)]
fn mul(a: Lanes, factor: f64) -> Lanes {
    let factor = fixed(factor);
    a.map(|value| value.wrapping_mul(factor))
}

/// One pass over eight vectors, of which `shift` fraction bits are rounded away. The flow graph is that of Loeffler, Ligtenberg and
/// Moschytz, 1989. Damaged files may exceed the range; it wraps.
#[inline(always)]
fn transform(v: [Lanes; SIDE], shift: u32) -> [Lanes; SIDE] {
    let z = mul(add(v[2], v[6]), 0.541_196_100);
    let (even2, even3) = (sub(z, mul(v[6], 1.847_759_065)), add(z, mul(v[2], 0.765_366_865)));
    let scaled = |value: Lanes| value.map(|value| value.wrapping_shl(BITS));
    let (even0, even1) = (scaled(add(v[0], v[4])), scaled(sub(v[0], v[4])));
    let even = [add(even0, even3), add(even1, even2), sub(even1, even2), sub(even0, even3)];

    let [t0, t1, t2, t3] = [v[7], v[5], v[3], v[1]];
    let z5 = mul(add(add(t0, t2), add(t1, t3)), 1.175_875_602);
    let z1 = mul(add(t0, t3), 0.899_976_223);
    let z2 = mul(add(t1, t2), 2.562_915_447);
    let z3 = sub(z5, mul(add(t0, t2), 1.961_570_560));
    let z4 = sub(z5, mul(add(t1, t3), 0.390_180_644));
    let odd = [
        add(sub(mul(t3, 1.501_321_110), z1), z4),
        add(sub(mul(t2, 3.072_711_026), z2), z3),
        add(sub(mul(t1, 2.053_119_869), z2), z4),
        add(sub(mul(t0, 0.298_631_336), z1), z3),
    ];

    let half = 1 << (shift - 1);
    std::array::from_fn(|i| {
        let sum = if i < 4 { add(even[i], odd[i]) } else { sub(even[7 - i], odd[7 - i]) };
        sum.map(|value| value.wrapping_add(half) >> shift)
    })
}
