//! Batch norm, addition and ReLU that are not fused into a convolution, element by element.

pub(in crate::kernels) mod kernel;
mod layer;

pub use kernel::{Elementwise, ElementwiseArgs};
pub use layer::ElementwiseLayer;

#[cfg(test)]
mod tests;
