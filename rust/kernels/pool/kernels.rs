//! The pooling kernels of a tier.

use super::avg::{AvgPool, avg_pool};
use super::avg_backward::{AvgPoolBackward, avg_pool_backward};
use super::int::{int_avg_pool, int_max_pool};
use super::max::{MaxPool, max_pool};
use super::max_backward::{MaxPoolBackward, max_pool_backward};
use crate::dtype::Element;
use crate::simd::{Activation, IntDot, Simd, Stored};

/// The routines of the pools, for one tier and tensors of `T`. Only a proof that this machine has the
/// tier makes them.
#[derive(Clone, Copy)]
pub struct PoolKernels<T> {
    /// One output pixel of a max pool.
    pub max: MaxPool<T>,
    /// One output pixel of an average pool.
    pub avg: AvgPool<T, T>,
}

impl<T: Element> PoolKernels<T> {
    /// The kernels for the values of `M`.
    pub(in crate::kernels) fn new<M: Stored<T = T>>(_proof: M) -> Self {
        Self {
            max: max_pool::<M>,
            avg: avg_pool::<M>,
        }
    }
}

/// The routines of the pools of int8 networks. Only a proof that this machine has the instructions makes them.
#[derive(Clone, Copy)]
pub struct IntPoolKernels<A> {
    /// One output pixel of a max pool.
    pub max: MaxPool<A>,
    /// One output pixel of an average pool.
    pub avg: AvgPool<A, A>,
    /// The same with results of 12 bits, for fc.
    pub head: AvgPool<A, i16>,
}

impl<A: Activation> IntPoolKernels<A> {
    /// The kernels beside those of `D`.
    pub(in crate::kernels) fn new<D: IntDot<A = A>>(_proof: D) -> Self {
        Self {
            max: int_max_pool::<D>,
            avg: int_avg_pool::<D, A>,
            head: int_avg_pool::<D, i16>,
        }
    }
}

/// The routines of the pools' gradients, in f32, for one tier. Only a proof that this machine has the
/// tier makes them.
#[derive(Clone, Copy)]
pub struct PoolGradients {
    /// Some channels of an image's gradient through a max pool.
    pub max: MaxPoolBackward,
    /// A row of the gradient through an average pool.
    pub avg: AvgPoolBackward,
}

impl PoolGradients {
    /// The kernels of tier `S`.
    pub(in crate::kernels) fn new<S: Simd>(_proof: S) -> Self {
        Self {
            max: max_pool_backward::<S>,
            avg: avg_pool_backward::<S>,
        }
    }
}
