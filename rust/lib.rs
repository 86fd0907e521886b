//! ResNet on a CPU, written from scratch.
//!
//! The way of the data, and where each part lives:
//!
//! ```text
//! image ─► pixels ─► network input ─► plan ─► kernels ─► logits ─► labels
//!          Python     kernels/input    plan/   kernels/   classify   Python
//!          Pillow                              walked by network/
//! ```
//!
//! [`Network::load`] reads the weights, folds batch norm into them and packs them once;
//! [`Network::forward`] plans each new input shape once and then walks the plan.

pub mod buffer;
pub mod classify;
mod error;
mod file;
pub mod kernels;
pub mod knobs;
pub mod network;
pub mod plan;
#[cfg(feature = "python")]
mod python;
pub mod text;
pub mod threads;

pub use error::Error;
pub use kernels::Isa;
pub use network::{Head, Images, Network, Options};
pub use plan::Shape;
