//! Max pool and average pools, also between channels of zeros.

mod avg;
mod kernels;
mod layers;
mod max;
mod window;

pub use avg::{AvgPool, AvgPoolArgs};
pub use kernels::PoolKernels;
pub use layers::{AvgPoolLayer, MaxPoolLayer};
pub use max::{MaxPool, MaxPoolArgs};
pub use window::WindowPixels;

#[cfg(test)]
mod tests;
