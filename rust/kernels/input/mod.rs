//! The network's input: normalisation, and the copy into the first tensor.

mod layer;
mod normalization;
mod pixels;

pub use layer::InputLayer;
pub use normalization::Normalization;
pub use pixels::Pixels;
