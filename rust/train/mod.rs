//! Training: the gradients of a network by its parameters, and the steps of an optimiser.

mod graph;
mod optimizer;
mod parameters;
mod plan;
mod state;
mod trainer;
mod walk;

pub use optimizer::{Hyperparameters, Method};
pub use trainer::{Outcome, TrainOptions, Trainer};
