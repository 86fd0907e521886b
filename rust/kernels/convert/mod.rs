//! Changes of type between the layers of a network that computes in int8 and in bf16.

pub(in crate::kernels) mod kernel;
mod layer;

pub use kernel::{Convert, ConvertArgs, ConvertKernels};
pub use layer::ConvertLayer;

#[cfg(test)]
mod tests;
