//! The plan: for one input shape each step's work and its place in the arena.
//!
//! Planning looks at shapes only: of the graph, and of the kernels' layers and tiles. A forward then
//! walks the steps without deciding anything.

mod arena;
mod build;
mod choose;
mod layout;
mod lifetimes;
mod outputs;
mod regions;
mod run;
mod segment;
mod step;
mod weights;
mod winograd;

pub use arena::{Lifetime, place};
pub use build::Plan;
pub use choose::{Algorithm, algorithms, choose};
pub use outputs::shapes;
pub use regions::Grouping;
pub use run::{StepContext, run_item};
pub use segment::Segment;
pub use step::{PlannedStep, Step};
pub use weights::{Arithmetic, HEAD_MOST, LayerWeights, Scales, panel_channels, panel_k};
pub use winograd::WinogradLayer;
