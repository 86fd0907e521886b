//! The panels of int8 convolutions. The arithmetic is stated to the bit in docs/int8.md, so every tier computes the same
//! numbers.

mod pack;

pub use pack::{IntPack, PanelValues};

#[cfg(test)]
mod tests;
