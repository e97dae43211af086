//! First weights that are drawn otherwise than the library does.

use crate::parameters::fits;
use burn::tensor::{Distribution, Tensor};
use deepseek_ocr_core::Parameters;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How parameters are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draw {
    /// What they are multiplied with.
    #[serde(default = "one")]
    pub times: f64,
    /// What all rows of a matrix have in common: the cosine of two of them is about its square.
    #[serde(default)]
    pub common: f64,
}

fn one() -> f64 {
    1.0
}

/// Changes parameters by the first pattern that fits their names.
pub(crate) struct Redraw<'a>(pub &'a BTreeMap<String, Draw>);

impl Parameters for Redraw<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        let Some((_, draw)) = self.0.iter().find(|(pattern, _)| fits(pattern, name)) else { return tensor };
        let tensor = tensor * draw.times;
        if draw.common == 0.0 {
            return tensor;
        }
        let mut row = tensor.dims();
        row[0] = 1;
        let spread = tensor.clone().square().mean().sqrt().into_scalar::<f32>();
        let common = Tensor::random(row, Distribution::Normal(0.0, f64::from(spread)), &tensor.device());
        common * draw.common + tensor * (1.0 - draw.common * draw.common).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn rows_have_in_common_what_is_asked_for_and_others_stay() {
        let (_alone, device) = (crate::random::alone(), Device::flex());
        device.seed(3);
        let table = Tensor::<2>::random([64, 256], Distribution::Normal(0.0, 0.02), &device);
        let draws = [("embed".to_owned(), Draw { times: 2.0, common: 0.8 })].into();
        let mut redraw = Redraw(&draws);
        let drawn = redraw.parameter("embed.weight", table.clone());
        let norms = drawn.clone().square().sum_dim(1).sqrt();
        let cosines = drawn.clone().matmul(drawn.transpose()) / norms.clone().matmul(norms.clone().transpose());
        let mean = (cosines.sum().into_scalar::<f32>() - 64.0) / (64.0 * 63.0);
        assert!((mean - 0.64).abs() < 0.06, "{mean}");
        // Each row's norm is that of 256 numbers of 0.04.
        assert!((norms.mean().into_scalar::<f32>() - 0.64).abs() < 0.06);
        let same = redraw.parameter("lm_head.weight", table.clone());
        assert_eq!(same.into_data(), table.into_data());
    }
}
