//! The arithmetic: every operation of the network, in three tiers.
//!
//! Letters, used throughout:
//! - A convolution is a matrix product with M = output pixels (batch · out_h · out_w),
//!   N = output channels and K = kernel_h · kernel_w · input channels. A register tile is MR x NR.
//! - Sizes and offsets count f32 elements, not bytes.
//!
//! Layouts, said once:
//! - Activations are NHWC: `[batch, height, width, channels]`, channels contiguous.
//! - Weights are OHWI: `[out_channels, kernel_h, kernel_w, in_channels]`, then packed into panels
//!   of NR output channels: for each panel NR biases, then for each k its NR weights.
//!
//! Each kernel is one generic routine over [`simd::Simd`]; [`KernelTable`] holds the compiled ones
//! of a tier. `reference` holds the naive loops that define what is right.

pub mod conv;
pub mod conv_tile;
mod denormals;
pub mod elementwise;
pub mod input;
pub mod isa;
pub mod pack;
pub mod peak;
pub mod pool;
pub mod reference;
pub mod simd;
mod table;
pub mod view;
pub mod winograd;

pub use denormals::FlushDenormals;
pub use isa::Isa;
pub use table::KernelTable;

#[cfg(test)]
mod tests;
