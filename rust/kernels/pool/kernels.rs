//! The pooling kernels of a tier.

use super::avg::{AvgPool, avg_pool};
use super::max::{MaxPool, max_pool};
use crate::simd::Simd;

/// The routines of the pools, for one tier and tensors of `T`. Only a proof that this machine has the
/// tier makes them.
#[derive(Clone, Copy)]
pub struct PoolKernels<T> {
    /// One output pixel of a max pool.
    pub max: MaxPool<T>,
    /// One output pixel of an average pool.
    pub avg: AvgPool<T>,
}

impl PoolKernels<f32> {
    /// The kernels of tier `S`.
    pub(in crate::kernels) fn new<S: Simd>(_proof: S) -> Self {
        Self {
            max: max_pool::<S>,
            avg: avg_pool::<S>,
        }
    }
}
