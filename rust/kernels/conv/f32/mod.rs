//! The convolution in f32.

mod kernels;
mod layer;
pub(super) mod pack;
mod tile;

pub use kernels::ConvKernels;
pub use pack::{packed_len, panel_len};
pub use tile::{ConvTile, TileArgs};
