//! Parts that kernels share.

#![allow(missing_docs)] // Of the modules that the macro makes beside each function.

use super::cubecl;
use cubecl::prelude::*;

/// `x / (1 + e^-x)`.
#[cube]
pub fn silu(x: f32) -> f32 {
    x / (f32::new(1.0) + f32::exp(-x))
}

/// The sum of a vector's numbers.
#[cube]
pub fn lane_sum<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = f32::new(0.0);
    #[unroll]
    for lane in 0..N::value() {
        sum += vector.extract(lane);
    }
    sum
}

/// The sum of the parts of all `2^halvings` units of a cube, for each of them. `field` has a place for each, and is free after it.
#[cube]
pub fn cube_sum(part: f32, field: &mut Shared<[f32]>, #[comptime] halvings: u32) -> f32 {
    let own = UNIT_POS as usize;
    field[own] = part;
    sync_cube();
    #[unroll]
    for halving in 0..halvings {
        let distance = comptime!(1usize << (halvings - halving - 1));
        if own < distance {
            let other = field[own + distance];
            field[own] += other;
        }
        sync_cube();
    }
    let sum = field[0];
    sync_cube();
    sum
}

/// The highest of the numbers of all units of a cube, as [`cube_sum`].
#[cube]
pub fn cube_highest(number: f32, field: &mut Shared<[f32]>, #[comptime] halvings: u32) -> f32 {
    let own = UNIT_POS as usize;
    field[own] = number;
    sync_cube();
    #[unroll]
    for halving in 0..halvings {
        let distance = comptime!(1usize << (halvings - halving - 1));
        if own < distance {
            let other = field[own + distance];
            field[own] = f32::max(field[own], other);
        }
        sync_cube();
    }
    let highest = field[0];
    sync_cube();
    highest
}
