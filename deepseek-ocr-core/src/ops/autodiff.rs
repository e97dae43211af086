//! What is computed otherwise where autodiff tracks it: products in mixed precision, attention and activations.
//!
//! Left to autodiff, attention keeps its scores, and several more tensors of their size, until the backward pass: 60 MB a layer for
//! 1400 positions in 8 heads. On the CPU they are made again there instead, some rows at a time.

#[cfg(feature = "flex")]
mod activations;
#[cfg(feature = "flex")]
mod recorded;

use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData, activation};

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mask {
    /// All.
    All,
    /// Those up to its own position.
    Causal,
}

/// `y = x W^T + b` of mixed precision: activations, and in the backward pass the slopes of `y`, are rounded to the type of the weights,
/// which is what a GPU has fast products for; slopes of `x` and of the bias are f32, those of the weights have their type.
///
/// # Shapes
/// - `x`: `[rows, inputs]`, f32
/// - `weight`: `[outputs, inputs]`; bf16 or f16
/// - `bias`: `[outputs]`, f32
/// - output: `[rows, outputs]`, f32
pub fn mixed_linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
    let narrow = if weight.dtype() == DType::F16 { FloatDType::F16 } else { FloatDType::BF16 };
    let y = x.cast(narrow).matmul(weight.transpose()).cast(FloatDType::F32);
    match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    }
}

/// Scaled dot-product attention: `softmax(q k^T / sqrt(head)) v`.
///
/// # Shapes
/// - `qkv`: queries, keys and values, `[heads, tokens, head]`, f32
/// - output: `[heads, tokens, head]`
pub fn attention(qkv: [Tensor<3>; 3], mask: Mask) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = recorded::attention(qkv.clone(), mask) {
        return y;
    }
    plain(qkv, |scores| match mask {
        Mask::All => scores,
        Mask::Causal => {
            let (tokens, shape) = (scores.dims()[1], scores.dims());
            let places = TensorData::new((0..tokens as i32).collect::<Vec<_>>(), [tokens]);
            let places = Tensor::<1, Int>::from_data(places, (&scores.device(), DType::I32));
            let keys = places.clone().reshape([1, 1, tokens]).expand(shape);
            let queries = places.reshape([1, tokens, 1]).expand(shape);
            scores.mask_fill(keys.greater(queries), f32::NEG_INFINITY)
        }
    })
}

/// Attention over a grid of tokens: to a score come a term for the key's row and one for its column.
///
/// # Shapes
/// - `qkv`: queries, keys and values, `[heads, rows * columns, head]`, f32
/// - `terms`: `[heads, rows * columns, rows]` and `[heads, rows * columns, columns]`, f32
/// - output: `[heads, rows * columns, head]`
pub fn grid_attention(qkv: [Tensor<3>; 3], terms: [Tensor<3>; 2]) -> Tensor<3> {
    #[cfg(feature = "flex")]
    if let Some(y) = recorded::grid_attention(qkv.clone(), terms.clone()) {
        return y;
    }
    let [vertical, horizontal] = terms;
    let ([heads, tokens, rows], columns) = (vertical.dims(), horizontal.dims()[2]);
    plain(qkv, |scores| {
        let scores = scores.reshape([heads, tokens, rows, columns]);
        let scores =
            scores + vertical.reshape([heads, tokens, rows, 1]) + horizontal.reshape([heads, tokens, 1, columns]);
        scores.reshape([heads, tokens, tokens])
    })
}

/// `x (1 + erf(x / sqrt(2))) / 2`; on the CPU in vectors, forwards and backwards.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = activations::gelu(x.clone()) {
        return y;
    }
    activation::gelu(x)
}

/// `silu(gate) * up`; on the CPU in vectors, forwards and backwards.
///
/// # Shapes
/// - `gate`, `up`, output: alike
pub fn silu_gate<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if let Some(y) = activations::silu_gate(gate.clone(), up.clone()) {
        return y;
    }
    activation::silu(gate) * up
}

fn plain([q, k, v]: [Tensor<3>; 3], change: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
    let head = q.dims()[2];
    let scores = (q * (head as f64).powf(-0.5)).matmul(k.transpose());
    activation::softmax(change(scores), 2).matmul(v)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::ops::linear;
    use burn::tensor::{Device, Distribution, Tolerance};

    #[test]
    fn slopes_of_mixed_products_are_those_of_f32_but_for_the_rounding() {
        let device = Device::flex().autodiff();
        let numbers = |shape| Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), &device).require_grad();
        let (x, weight, factors) = (numbers([5, 48]), numbers([7, 48]), numbers([5, 7]).detach());
        let bias = Tensor::<1>::random([7], Distribution::Uniform(-1.0, 1.0), &device).require_grad();
        let [exact, mixed] = [FloatDType::F32, FloatDType::BF16].map(|dtype| {
            let y = linear(x.clone(), weight.clone().cast(dtype), Some(bias.clone()));
            assert_eq!(y.dtype(), DType::F32);
            let slopes = (y.clone() * factors.clone()).sum().backward();
            let flat = |slope: Option<Tensor<2>>| slope.expect("autodiff tracks it").flatten::<1>(0, 1).into_data();
            [y.inner().flatten::<1>(0, 1).into_data(), flat(x.grad(&slopes)), flat(weight.grad(&slopes))]
        });
        for (exact, mixed) in exact.iter().zip(&mixed) {
            assert_eq!(mixed.dtype(), DType::F32);
            let worst = exact.iter::<f32>().zip(mixed.iter::<f32>()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let largest = exact.iter::<f32>().fold(0.0, |largest: f32, number| largest.max(number.abs()));
            // Numbers of bf16 are off by 2^-9 at most, sums of them by little more; they are not the same either.
            assert!(worst > 0.0 && worst < 8e-3 * largest, "{worst} of {largest}");
        }
    }

    fn random<const N: usize>(shapes: [[usize; 3]; N]) -> [Tensor<3>; N] {
        shapes.map(|shape| {
            Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::flex().autodiff()).require_grad()
        })
    }

    /// Compares the outputs of the same inputs, and what inputs are to be changed by for one sum of products with the outputs.
    fn assert_alike<const N: usize>(inputs: [Tensor<3>; N], f: impl Fn(&[Tensor<3>; N]) -> [Tensor<3>; 2]) {
        let [actual, expected] = f(&inputs);
        let tolerance = Tolerance::absolute(1e-5);
        actual.to_data().assert_approx_eq::<f32>(&expected.to_data(), tolerance);
        let factors = Tensor::<3>::random(actual.dims(), Distribution::Uniform(-1.0, 1.0), &Device::flex().autodiff());
        let gradients = [actual, expected].map(|y| (y * factors.clone()).sum().backward());
        for input in &inputs {
            let [actual, expected] = gradients.each_ref().map(|gradients| input.grad(gradients).expect("a gradient"));
            actual.into_data().assert_approx_eq::<f32>(&expected.into_data(), tolerance);
        }
    }

    #[test]
    fn activations_equal_the_plain_ones_forwards_and_backwards() {
        // Within one part and over several.
        for shape in [[2, 3, 5], [3, 70, 128]] {
            assert_alike(random([shape]), |[x]| [gelu(x.clone() * 4.0), activation::gelu(x.clone() * 4.0)]);
            assert_alike(random([shape; 2]), |[gate, up]| {
                let wide = || gate.clone() * 4.0;
                [silu_gate(wide(), up.clone()), activation::silu(wide()) * up.clone()]
            });
            // Of which only one is tracked, and one that does not lie row by row.
            let [other] = random([shape]);
            assert_alike(random([[shape[0], shape[2], shape[1]]]), |[up]| {
                let (gate, turned) = (other.clone().detach(), || up.clone().swap_dims(1, 2));
                [silu_gate(gate.clone(), turned()), activation::silu(gate) * turned()]
            });
        }
    }

    #[test]
    fn attention_equals_the_plain_one_forwards_and_backwards() {
        // More than one block of queries, and one that is not full.
        for (tokens, mask) in
            [(5, Mask::All), (70, Mask::All), (1, Mask::Causal), (7, Mask::Causal), (130, Mask::Causal)]
        {
            assert_alike(random([[3, tokens, 8]; 3]), |qkv| {
                let plain = plain(qkv.clone(), |scores| match mask {
                    Mask::All => scores,
                    Mask::Causal => {
                        let later = Tensor::<2, Int>::ones([tokens, tokens], &scores.device()).triu(1).equal_elem(1);
                        let shape = scores.dims();
                        scores.mask_fill(later.unsqueeze::<3>().expand(shape), f32::NEG_INFINITY)
                    }
                });
                [attention(qkv.clone(), mask), plain]
            });
        }
    }

    #[test]
    fn attention_over_a_grid_equals_the_plain_one_forwards_and_backwards() {
        for [rows, columns] in [[1, 1], [2, 3], [4, 32], [9, 8]] {
            let (tokens, heads) = (rows * columns, 2);
            let shapes = [
                [heads, tokens, 4],
                [heads, tokens, 4],
                [heads, tokens, 4],
                [heads, tokens, rows],
                [heads, tokens, columns],
            ];
            assert_alike(random(shapes), |[q, k, v, vertical, horizontal]| {
                let qkv = [q.clone(), k.clone(), v.clone()];
                let terms = vertical.clone().reshape([heads, tokens, rows, 1])
                    + horizontal.clone().reshape([heads, tokens, 1, columns]);
                let plain = plain(qkv.clone(), |scores| scores + terms.reshape([heads, tokens, tokens]));
                [grid_attention(qkv, [vertical.clone(), horizontal.clone()]), plain]
            });
        }
    }
}
