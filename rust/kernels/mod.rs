//! The arithmetic: every operation of the network, for each tier.
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
//! An operation has a folder. In it are the routine, generic over [`Simd`](crate::simd::Simd), with its
//! arguments and the type of its pointer; the layer, which cuts an output into items of work; and,
//! if there are several routines, a struct of them for one tier. [`KernelTable`] is composed of
//! these structs. A routine that is written for one instruction set gets a file of that name in
//! the folder. `reference` holds the naive loops that define a right result.

pub mod conv;
pub mod elementwise;
pub mod input;
pub mod peak;
pub mod pool;
pub mod reference;
mod table;
pub mod view;

pub use table::KernelTable;

#[cfg(test)]
mod testing;
