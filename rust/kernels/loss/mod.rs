//! Softmax and cross-entropy: the loss of each image, and its gradient by the logits.

mod kernel;
mod layer;

pub use kernel::{CrossEntropy, CrossEntropyArgs, ImageLoss, LossKernels};
pub use layer::CrossEntropyLayer;

#[cfg(test)]
mod tests;
