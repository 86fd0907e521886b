//! The plan of a training step: the forward pass, the loss, and the gradients, for one shape.

mod activation_gradient;
mod backward;
mod build;
mod choose;
mod forward;
mod input_gradient;
mod reach;
mod run;
mod slots;
mod step;
mod weight_gradient;

pub use build::{Inputs, TrainPlan, Trainable};
pub use run::{TrainContext, run_item};
pub use step::PlannedTrainStep;

#[cfg(test)]
mod reach_tests;
