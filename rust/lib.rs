//! ResNet on a CPU, written from scratch.
//!
//! The way of the data, and the room of each stage:
//!
//! ```text
//! image ─► pixels ─► network input ─► plan ─► kernels ─► logits ─► labels
//!          Python     kernels/input    plan/   kernels/   classify   Python
//!          Pillow                              walked by infer/
//! ```
//!
//! [`Network::load`] reads the weights, folds batch norm into them and packs them once;
//! [`Network::forward`] plans each new input shape once and then walks the plan.
//!
//! The rooms and their order are drawn in docs/architecture.md; `tests/rooms/` checks that a room
//! imports only from rooms below it.

pub mod classify;
pub mod dtype;
mod error;
pub mod graph;
pub mod infer;
pub mod kernels;
pub mod knobs;
pub mod memory;
pub mod plan;
#[cfg(feature = "python")]
mod python;
mod shape;
pub mod simd;
pub mod threads;
pub mod train;
pub mod weights;

pub use error::Error;
pub use infer::{Head, Images, Network, Options};
pub use shape::{Shape, TensorShape};
pub use simd::Isa;
