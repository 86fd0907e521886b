//! The description of a network: its numbers, operations and layers. No kernels, no weights.
//!
//! ```text
//! config.json ─► family + variant ─► architecture ─► operations ─► layers
//!                                                    builder       fuse
//! ```

pub mod architecture;
mod builder;
pub mod config;
pub mod family;
pub mod fuse;
pub mod head;
pub mod layer;
pub mod operations;
pub mod output_function;
pub mod preprocessing;
pub mod stages;
pub mod variant;
