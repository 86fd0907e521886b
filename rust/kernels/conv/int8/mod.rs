//! The convolution in int8: whole numbers, with sums in i32 and one rounding at the end.
//!
//! The arithmetic is stated to the bit in docs/int8.md, so every tier computes the same numbers.

mod kernels;
mod layer;
mod pack;
mod tile;

pub use kernels::IntConvKernels;
pub use pack::PanelValues;

#[cfg(test)]
mod tests;
