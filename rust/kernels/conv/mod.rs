//! Convolutions, and the fully connected layer.
//!
//! The layer, its windows and its items of work are the same for every dtype. A folder for each
//! dtype has the microkernel with its arguments, and the form of its packed weights.

pub mod dot;
pub mod f32;
mod grid;
pub mod int8;
mod layer;
pub mod mixed;
mod source;
mod tile;
mod tile_shape;
mod window;
pub mod winograd;

pub use grid::Grid;
pub use layer::{Conv, Shift};
pub(in crate::kernels) use source::Walk;
pub use source::{MAX_SOURCES, Source};
pub use tile::{Segment, Tile};
pub use tile_shape::TileShape;
pub use window::ChannelWindow;

#[cfg(test)]
mod tests;
