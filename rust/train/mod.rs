//! Training: the gradients of a network by its parameters, and the steps of an optimiser.

mod graph;
mod optimizer;
mod parameters;
mod plan;
mod state;
mod trainer;
mod update;
mod walk;

pub use optimizer::{Group, Hyperparameters, Method};
pub use plan::TrainPlan;
pub use state::Set;
pub use trainer::{Outcome, TrainOptions, Trainer};
