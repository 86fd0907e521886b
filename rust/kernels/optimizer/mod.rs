//! Steps of the weights: SGD, AdamW, the average of weights, and the norm of gradients.
//!
//! All work on arrays of f32 in memory, element by element, in chunks that do not depend on the
//! number of threads. The operations and their roundings are those of torch's `optim.SGD`,
//! `optim.AdamW`, `lerp_` of an averaged model and `clip_grad_norm_`: tiers with fused
//! multiply-add give the same bits for the same gradients.

mod adamw;
mod average;
mod chunks;
mod kernels;
mod norm;
mod sgd;

pub use adamw::{AdamW, AdamWArgs, AdamWStep, AdamWTensor};
pub use average::{Average, AverageTensor};
pub use chunks::{CHUNK, chunk, chunks};
pub use kernels::OptimizerKernels;
pub use norm::SumOfSquares;
pub use sgd::{Sgd, SgdArgs, SgdTensor};

#[cfg(test)]
mod tests;
