//! Inference: loading a network, and running it.

mod copies;
mod features;
mod forward;
mod images;
mod network;
mod plans;
mod profile;
pub mod reference;
mod session;
mod statistics;
mod walk;

pub use features::Activation;
pub use images::Images;
pub use network::{Head, Network, Options};
pub use plans::kernel_name;
pub use statistics::{BINS, Statistics};

#[cfg(test)]
mod bf16_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod int8_tests;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod small_tests;
#[cfg(test)]
mod tests;
