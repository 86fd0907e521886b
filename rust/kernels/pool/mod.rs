//! Max pool and average pools, also between channels of zeros, and their gradients.

mod avg;
mod avg_backward;
mod backward_layers;
mod image;
mod int;
mod kernels;
mod layers;
mod max;
mod max_backward;
mod window;

pub use avg::{AvgPool, AvgPoolArgs, Units};
pub use avg_backward::{AvgPoolBackward, AvgPoolBackwardArgs};
pub use backward_layers::{AvgPoolGradient, MaxPoolGradient, NormBytes};
pub use image::ImagePixels;
pub use kernels::{IntPoolKernels, PoolGradients, PoolKernels};
pub use layers::{AvgPoolLayer, MaxPoolLayer};
pub use max::{MaxPool, MaxPoolArgs};
pub use max_backward::{MaxPoolBackward, MaxPoolBackwardArgs};
pub use window::WindowPixels;

#[cfg(test)]
mod backward_tests;
#[cfg(test)]
mod tests;
