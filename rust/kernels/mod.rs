//! The arithmetic: every operation of the network, for each tier.
//!
//! Letters, used throughout:
//! - A convolution is a matrix product with M = output pixels (batch · out_h · out_w),
//!   N = output channels and K = kernel_h · kernel_w · input channels. A register tile is MR x NR.
//!
//! Units:
//! - Places in the arena and in the packed weights, which hold tensors of several dtypes, count
//!   bytes, and so do lengths there; their names end in `_bytes`.
//! - Strides, taps and channels count elements of the tensor's dtype.
//!
//! Layouts:
//! - Activations are NHWC: `[batch, height, width, channels]`, channels contiguous. Their exact places
//!   depend on the tier ([`ActivationLayout`]) and are recorded in a [`View`](view::View).
//! - Weights are OHWI: `[out_channels, kernel_h, kernel_w, in_channels]`, then packed into panels
//!   of NR output channels, in a form of the dtype's own.
//!
//! An operation has a folder. In it are the routine, generic over [`Simd`](crate::simd::Simd), with its
//! arguments and the type of its pointer; the layer, which cuts an output into items of work; and,
//! if there are several routines, a struct of them for one tier. [`KernelTable`] is composed of
//! these structs, with a set for each dtype. Layers are the same for all dtypes; routines and their
//! arguments have files of their own for each dtype. A routine that is written for one instruction
//! set gets a file of that name in the folder. `reference` holds the naive loops that define the
//! correct result.

mod activations;
pub mod conv;
pub mod convert;
pub mod elementwise;
pub mod input;
pub mod loss;
pub mod norm;
pub mod optimizer;
pub mod peak;
pub mod pool;
pub mod reference;
#[cfg(test)]
pub(crate) mod reference_gradients;
mod shapes;
mod table;
pub mod view;

pub use activations::ActivationLayout;
pub use shapes::KernelShapes;
pub use table::{Bf16Kernels, Bf16Speed, F32Kernels, IntKernels, KernelTable};

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
pub(crate) mod testing_packed;
