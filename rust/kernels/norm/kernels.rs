//! The routines of a tier.

use super::activate::{ActivateRow, activate_row};
use super::gradient::{GradientRow, Sums, gradient_row, sums};
use super::statistics::{Moments, moments};
use crate::simd::Simd;

/// The routines of batch norm while training, for one tier. Only a proof that this machine has the tier makes
/// them.
#[derive(Clone, Copy)]
pub struct NormKernels {
    /// The moments of a block.
    pub moments: Moments,
    /// A row of an activation.
    pub activate: ActivateRow,
    /// The sums of a block in the backward pass.
    pub sums: Sums,
    /// A row of the gradient of a convolution's output.
    pub gradient: GradientRow,
}

impl NormKernels {
    /// The kernels of tier `S`.
    pub(in crate::kernels) fn new<S: Simd>(_proof: S) -> Self {
        Self {
            moments: moments::<S>,
            activate: activate_row::<S>,
            sums: sums::<S>,
            gradient: gradient_row::<S>,
        }
    }
}
