//! The plans of a network: for its forwards, and for inspection.

use std::sync::Arc;

use super::network::Network;
use crate::error::Error;
use crate::kernels::KernelTable;
use crate::plan::{Grouping, Plan, Step};
use crate::shape::Shape;

/// The most pixels of a batch that is planned as one, unless it is one image: a plan has a step for
/// each block of tiles.
const MAX_PLAN_PIXELS: usize = 128 * 224 * 224;

impl Network {
    /// The plan to inspect for a batch of this shape: every layer runs for all images at once. For one
    /// image it is the plan of a forward; a forward of several images runs the first layers group by
    /// group.
    ///
    /// # Errors
    /// The batch or a side is zero or too large.
    pub fn plan(&self, shape: Shape) -> Result<Plan, Error> {
        shape.check_sides()?;
        self.check_head(shape)?;
        let most = (MAX_PLAN_PIXELS / (shape.height * shape.width)).max(1);
        if !(1..=most).contains(&shape.batch) {
            return Err(Error::Argument(format!(
                "batch: expected 1 to {most} images of this size, found {}",
                shape.batch
            )));
        }
        Ok(self.make_plan(shape, self.threads, Grouping::Whole))
    }

    /// The plan of a forward at `shape`.
    pub(super) fn forward_plan(&self, shape: Shape, threads: usize) -> Arc<Plan> {
        let make = || self.make_plan(shape, threads, Grouping::Caches);
        self.session.get().plan(shape, threads, make)
    }

    /// A plan at `shape` for `threads` threads.
    pub(super) fn make_plan(&self, shape: Shape, threads: usize, grouping: Grouping) -> Plan {
        Plan::new(
            &self.layers,
            &self.weights.layers,
            shape,
            self.architecture.in_channels,
            &self.table.shapes(),
            threads,
            grouping,
        )
    }
}

/// The name of the kernel that computes `step`.
pub fn kernel_name(step: &Step, table: &KernelTable) -> String {
    match (step, step.operation()) {
        // Plain Rust, the same for all tiers.
        (Step::Input(_), operation) => operation.into(),
        (_, "conv") => table.conv_name(step.dtype()),
        (_, operation) => table.name(step.dtype(), operation),
    }
}
