//! The convolution in f32.

mod gradient_grid;
mod gradient_input;
mod gradient_kernels;
mod kernels;
mod layer;
mod outer;
pub(super) mod pack;
mod parts;
mod tile;
mod tiles;
mod transposed;
mod weight_gradient;

pub use gradient_input::GradientInput;
pub use gradient_kernels::WeightGradientKernels;
pub use kernels::ConvKernels;
pub(in crate::kernels::conv) use layer::ahead;
pub(in crate::kernels::conv) use outer::{OuterArgs, OuterTile, PackArgs, normalized};
pub use pack::{packed_len, panel_len};
pub use parts::{BiasGradient, MaskGroups, SumParts};
pub use tile::{ConvTile, Finish, TileArgs};
pub(in crate::kernels::conv) use tile::{fetch, finish};
pub(in crate::kernels::conv) use tiles::tiles;
pub use transposed::{Transpose, TransposeArgs, TransposedWeights};
pub use weight_gradient::WeightGradient;

#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod tests;
