//! Every kernel against the reference.

use super::*;
use crate::{
    generated,
    ops::{flex::field::Extent, reference},
};
use burn::tensor::Tensor;

#[derive(Debug)]
struct Case {
    views: usize,
    grid: usize,
    side: usize,
    heads: usize,
    head: usize,
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

/// Every kernel that this CPU runs, with what it may be off: sums of f32 with weights of one in all, or values and scores
/// that were rounded to 8 bits.
fn kernels() -> impl Iterator<Item = (Isa, Precision, f32)> {
    let exact = Isa::ALL.into_iter().map(|isa| (isa, Precision::Exact, 1e-5));
    let all = exact.chain([(Isa::Avx512Bf16, Precision::Bf16, 3e-2)]);
    all.filter(|(isa, ..)| isa.is_available())
}

fn compare(field: &Field<'_>, expected: &[f32], case: &Case) {
    for (isa, precision, tolerance) in kernels() {
        let mut output = vec![f32::NAN; expected.len()];
        attend(isa, precision, field, &mut output);
        let errors = output.iter().zip(expected).map(|(y, expected)| (y - expected).abs());
        // `max` of f32 passes over NaN.
        let worst = errors.fold(0f32, |worst, error| if error <= worst { worst } else { error });
        assert!(worst <= tolerance, "{isa:?} {precision:?} {case:?}: {worst}");
    }
}

fn check(case: &Case) {
    let &Case { views, grid, side, heads, head } = case;
    let parts = 3 * heads * head;
    let qkv = generated::tensor([views, grid, grid, parts]);
    let overhang = generated::tensor([2, parts]).slice([1..2, 0..parts]).reshape([parts]);
    let tables: [_; 2] = std::array::from_fn(|i| {
        let rows = 2 * side - 1;
        generated::tensor([(i + 1) * rows, head]).slice([i * rows..(i + 1) * rows, 0..head])
    });
    let expected = numbers(reference::window_attention(qkv.clone(), overhang.clone(), tables.clone()));
    let (qkv, overhang, tables) = (numbers(qkv), numbers(overhang), tables.map(numbers));
    let width = heads * head;
    let field = Field {
        overhang: [0, 1, 2].map(|part| &overhang[part * width..][..width]),
        grid: Extent { rows: grid, columns: grid },
        window: Extent { rows: side, columns: side },
        tables: Some(tables.each_ref().map(Vec::as_slice)),
        ..Field::line(&qkv, [views, grid * grid, heads, head])
    };
    compare(&field, &expected, case);
}

fn check_plain(views: usize, tokens: usize, heads: usize, head: usize) {
    let qkv = generated::tensor([views, tokens, 3 * heads * head]);
    let expected = numbers(reference::attention(qkv.clone(), heads));
    let qkv = numbers(qkv);
    let field = Field::line(&qkv, [views, tokens, heads, head]);
    compare(&field, &expected, &Case { views, grid: tokens, side: 0, heads, head });
}

#[test]
fn windows_of_every_side() {
    for side in 1..=20 {
        check(&Case { views: 2, grid: side, side, heads: 2, head: 16 });
    }
}

#[test]
fn windows_that_overhang() {
    for (grid, side) in [(1, 2), (3, 14), (5, 2), (15, 14), (20, 7), (30, 16)] {
        check(&Case { views: 2, grid, side, heads: 3, head: 8 });
    }
}

#[test]
fn heads_of_any_width() {
    for head in [1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 65, 80] {
        check(&Case { views: 1, grid: 9, side: 5, heads: 2, head });
        check_plain(2, 21, 2, head);
    }
}

#[test]
fn several_blocks_groups_and_tasks() {
    check(&Case { views: 1, grid: 33, side: 33, heads: 1, head: 24 });
    check(&Case { views: 1, grid: 40, side: 40, heads: 1, head: 64 });
    check_plain(1, 700, 1, 32);
}

#[test]
fn lines_of_any_length() {
    for tokens in [1, 2, 15, 16, 17, 65, 101, 257, 258] {
        check_plain(2, tokens, 2, 16);
    }
}

#[test]
fn large_scores_do_not_overflow() {
    let (tokens, head) = (40, 16);
    let qkv = generated::tensor([1, tokens, 3 * head]);
    let scales = (0..3 * head).map(|at| if at < 2 * head { 100.0 } else { 1.0 }).collect::<Vec<f32>>();
    let scaled: Vec<f32> = numbers(qkv).iter().zip(scales.iter().cycle()).map(|(x, scale)| x * scale).collect();
    let field = Field::line(&scaled, [1, tokens, 1, head]);
    for (isa, precision, _) in kernels() {
        let mut output = vec![f32::NAN; tokens * head];
        attend(isa, precision, &field, &mut output);
        assert!(output.iter().all(|y| y.abs() <= 1.0), "{isa:?} {precision:?}");
    }
}
