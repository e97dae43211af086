//! Kernels against the reference, on whatever wgpu finds; a software Vulkan will do.

use super::rel_pos_attention;
use crate::{generated, ops::reference};
use burn::tensor::{Device, DeviceKind, Tensor};

/// Sums of f32 in another order, of softmax weights that add up to one: seen 1e-6.
const NEAR: f32 = 2e-5;

fn check(views: usize, grid: usize, side: usize, [heads, head]: [usize; 2]) {
    let device = Device::wgpu(DeviceKind::DefaultDevice);
    let width = 3 * heads * head;
    let qkv = generated::tensor([views, grid, grid, width]).to_device(&device);
    let overhang = generated::tensor([width]).to_device(&device);
    let tables: Tensor<2> = generated::tensor([2 * (2 * side - 1), head]).to_device(&device);
    let [rel_h, rel_w]: [Tensor<2>; 2] = tables.split(2 * side - 1, 0).try_into().expect("two tables");
    let expected = reference::window_attention(qkv.clone(), overhang.clone(), [rel_h.clone(), rel_w.clone()]);
    let actual = rel_pos_attention(&qkv, &overhang, [&rel_h, &rel_w]).expect("the tensors are on a GPU");
    assert_eq!(actual.dims(), expected.dims());
    let worst = (actual - expected).abs().max().into_scalar::<f32>();
    assert!(worst <= NEAR, "{views} views, grid {grid}, side {side}, {heads} heads of {head}: {worst}");
}

#[test]
fn windows_that_fit_and_windows_that_overhang() {
    for (grid, side) in [(4, 2), (5, 2), (7, 14), (15, 14), (9, 3)] {
        check(2, grid, side, [3, 8]);
    }
}

#[test]
fn whole_views_and_heads_of_any_width() {
    for (side, heads) in [(1, [1, 4]), (5, [2, 6]), (9, [3, 5]), (12, [2, 64]), (17, [1, 16])] {
        check(1, side, side, heads);
    }
}
