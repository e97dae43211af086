//! What a product may round.

/// How activations meet weights of lower precision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// Weights are widened to f32 and nothing is rounded but the f32 sums. Only the order of a sum differs from the
    /// reference's: an error of at most `inputs * 2^-24 * sum |x w|`, in practice near its square root.
    #[default]
    Exact,
    /// Activations are rounded to bf16, too, where weights are bf16 and the CPU multiplies pairs of bf16: at most
    /// `2^-8 * sum |x w|` more, in practice about `2^-9 * sqrt(sum (x w)^2)`, at twice the rate. The same as
    /// [`Exact`](Self::Exact) on other CPUs and for one row, which the memory's speed limits. A GPU that has bf16 rounds the results of
    /// many rows, too.
    Bf16,
}
