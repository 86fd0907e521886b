//! Training: the gradients of a network by its parameters, and the steps of an optimiser.

mod graph;
mod optimizer;
mod parameters;
mod plan;
mod precision;
mod state;
mod trainer;
mod update;
mod walk;

pub use optimizer::{Group, Hyperparameters, Method};
pub use plan::TrainPlan;
pub use precision::Precision;
pub use state::Set;
pub use trainer::{Outcome, TrainOptions, Trainer};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod gradient_tests;
#[cfg(test)]
mod trainer_tests;
