//! Batch norm while training: statistics of the batch, the activation, and both gradients.
//!
//! With m values y of a channel, in f32 unless said:
//!
//! ```text
//! mean = Σ y / m       variance = Σ (y - mean)² / m       s = 1 / sqrt(variance + ε)        (in f64)
//! a = relu(y · scale + shift)        scale = γ·s, shift = β - mean·scale
//!
//! dz = da where a > 0, else 0
//! dβ = Σ dz        dγ = s · Σ dz·(y - mean)                                                (in f64)
//! dy = γ·s · (dz - dβ/m - (y - mean)·s·dγ/m)
//! ```
//!
//! Sums run over blocks of pixels: within a block in f32, over the blocks in f64 and in their order. The
//! blocks depend on shapes only, so the result is the same for any number of threads. A block has its own
//! mean, and squares are summed around it; that of all follows from them (Chan, Golub and LeVeque,
//! "Algorithms for Computing the Sample Variance", 1983), so a large mean costs no digits.
//!
//! Source: Ioffe and Szegedy, "Batch Normalization", 2015. The formulas of the gradients are derived in
//! the book's chapter.

mod activate;
mod coefficients;
mod gradient;
mod kernels;
mod rows;
mod statistics;

pub use activate::{Activate, Summand};
pub use coefficients::{Coefficients, FinishGradient, FinishStatistics, GammaBeta, Running};
pub use gradient::{GradientSums, Mask, NormGradient};
pub use kernels::NormKernels;
pub use statistics::Statistics;

#[cfg(test)]
mod activate_tests;
#[cfg(test)]
mod gradient_tests;
#[cfg(test)]
mod statistics_tests;
#[cfg(test)]
mod testing;
