//! The convolution on activations of fewer bits: groups of neighbours of K are multiplied by one instruction
//! ([`Dot`](crate::simd::Dot)).
//!
//! int8 and bf16 networks share the microkernel and its loops. Their panels differ, and have folders of their own.

mod kernels;
mod layer;
mod tile;

pub use kernels::DotKernels;

#[cfg(test)]
mod tests;
