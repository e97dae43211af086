//! What happens to parameters by their names.

use crate::optimizer::is_matrix;
use burn::tensor::{DType, FloatDType, Tensor};
use deepseek_ocr_core::Parameters;

/// Makes parameters f32.
pub(crate) struct Widen;

impl Parameters for Widen {
    fn parameter<const D: usize>(&mut self, _name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if tensor.dtype() == DType::F32 { tensor } else { tensor.cast(FloatDType::F32) }
    }
}

/// Rounds the matrices of products to bf16; slopes come back to what they were rounded from.
pub(crate) struct Narrow;

impl Parameters for Narrow {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        if D == 2 && is_matrix(name, D) { tensor.cast(FloatDType::BF16) } else { tensor }
    }
}

/// Lets autodiff track the parameters that are trained.
pub(crate) struct Track<'a> {
    /// How their names begin.
    pub among: &'a str,
    /// Patterns of those that are not, for all that.
    pub frozen: &'a [String],
}

impl Parameters for Track<'_> {
    fn parameter<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) -> Tensor<D> {
        let frozen = !name.starts_with(self.among) || self.frozen.iter().any(|pattern| fits(pattern, name));
        if frozen { tensor.autodiff() } else { tensor.autodiff().require_grad() }
    }
}

/// Whether a name fits a pattern, in which `*` stands for anything; a pattern without one is a beginning.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return true };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_beginnings_or_have_stars() {
        assert!(fits("model.layers.1", "model.layers.1.mlp.gate.weight") && !fits("layers", "model.layers.1"));
        assert!(
            fits("*.mlp.*weight", "model.layers.1.mlp.gate.weight")
                && !fits("*.mlp.*bias", "model.layers.1.mlp.gate.weight")
        );
        assert!(fits("*", "lm_head.weight") && !fits("*_head", "lm_head.weight"));
    }
}
