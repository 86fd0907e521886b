//! The routines of the optimizers of a tier.

use super::adamw::{AdamWStep, adamw};
use super::average::{Average, average};
use super::norm::{SumOfSquares, sum_of_squares};
use super::sgd::{Sgd, sgd};
use crate::simd::Simd;

/// The routines of the optimizers, for one tier. Only a proof that this machine has the tier makes them.
#[derive(Clone, Copy)]
pub struct OptimizerKernels {
    /// A step of SGD.
    pub sgd: Sgd,
    /// A step of AdamW.
    pub adamw: AdamWStep,
    /// The moving average of weights.
    pub average: Average,
    /// The sum of squares.
    pub sum_of_squares: SumOfSquares,
}

impl OptimizerKernels {
    /// The kernels of tier `S`.
    pub(in crate::kernels) fn new<S: Simd>(_proof: S) -> Self {
        Self {
            sgd: sgd::<S>,
            adamw: adamw::<S>,
            average: average::<S>,
            sum_of_squares: sum_of_squares::<S>,
        }
    }
}
