//! The arithmetic: every operation of the network, for each tier.
//!
//! Letters, used throughout:
//! - A convolution is a matrix product with M = output pixels (batch · out_h · out_w),
//!   N = output channels and K = kernel_h · kernel_w · input channels. A register tile is MR x NR.
//!
//! Units, said once:
//! - Places in the arena and in the packed weights, which hold tensors of several dtypes, count
//!   bytes, and so do lengths there; their names end in `_bytes`.
//! - Strides, taps and channels count elements of the tensor's dtype.
//!
//! Layouts, said once:
//! - Activations are NHWC: `[batch, height, width, channels]`, channels contiguous. Where exactly
//!   they lie is the tier's affair ([`ActivationLayout`]); a [`View`](view::View) says it.
//! - Weights are OHWI: `[out_channels, kernel_h, kernel_w, in_channels]`, then packed into panels
//!   of NR output channels, in a form that each dtype has for itself.
//!
//! An operation has a folder. In it are the routine, generic over [`Simd`](crate::simd::Simd), with its
//! arguments and the type of its pointer; the layer, which cuts an output into items of work; and,
//! if there are several routines, a struct of them for one tier. [`KernelTable`] is composed of
//! these structs, a set for each dtype. Layers are the same for all dtypes, routines and their
//! arguments are not: a dtype has files of its own. A routine that is written for one instruction
//! set gets a file of that name in the folder. `reference` holds the naive loops that define a
//! right result.

mod activations;
pub mod conv;
pub mod elementwise;
pub mod input;
pub mod peak;
pub mod pool;
pub mod reference;
mod shapes;
mod table;
pub mod view;

pub use activations::ActivationLayout;
pub use shapes::KernelShapes;
pub use table::{F32Kernels, KernelTable};

#[cfg(test)]
mod testing;
