//! The network's input: normalisation, and the copy into the first tensor.

mod layer;
mod normalization;
mod pixel_scale;
mod pixels;

pub use layer::InputLayer;
pub use normalization::Normalization;
pub use pixel_scale::{PixelScale, quantized_channels};
pub use pixels::Pixels;
