//! The products of a convolution in bf16, for training in mixed precision.
//!
//! Tensors in memory stay f32. A kernel rounds what it multiplies to bf16 on the way into its scratch memory,
//! multiplies pairs of neighbours of K, and sums in f32. So weights have a bf16 form for each use, made anew in
//! each step: for every panel NR biases in f32, then for each pair of k the NR pairs of weights. An odd K ends
//! with a pair whose second value is zero. Places are 4 bytes wide in either form, so a panel of K has the size
//! of an f32 panel of ⌈K / 2⌉.

mod kernels;
mod layer;
mod outer;
mod rows;
mod tile;
mod transposed;
mod weights;

pub use kernels::MixedKernels;
pub(in crate::kernels) use weights::round_row;
pub use weights::{RoundPanels, RoundRow, RoundRowArgs};

#[cfg(test)]
mod tests;
