//! Convolutions, and the fully connected layer.

mod grid;
mod kernels;
mod layer;
mod pack;
mod source;
mod tile;
mod window;
pub mod winograd;

pub use grid::{Grid, TileShape};
pub use kernels::ConvKernels;
pub use layer::{Conv, Shift};
pub use pack::packed_len;
pub use source::{MAX_SOURCES, Source};
pub use tile::{ConvTile, Segment, TileArgs};
pub use window::ChannelWindow;

#[cfg(test)]
mod tests;
