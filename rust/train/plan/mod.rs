//! The plan of a training step: the forward pass, the loss, and the gradients, for one shape.

mod backward;
mod build;
mod choose;
mod forward;
mod reach;
mod slots;
mod step;

pub use build::{Inputs, TrainPlan, Trainable};
pub use step::{PlannedTrainStep, TrainContext, run_item};

#[cfg(test)]
mod reach_tests;
