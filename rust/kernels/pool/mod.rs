//! Max pool and average pools.

mod avg;
mod kernels;
mod layers;
mod max;

pub use avg::{AvgPool, AvgPoolArgs};
pub use kernels::PoolKernels;
pub use layers::{AvgPoolLayer, MaxPoolLayer};
pub use max::{MaxPool, MaxPoolArgs};

#[cfg(test)]
mod tests;
