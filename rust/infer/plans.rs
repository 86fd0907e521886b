//! The plans of a network: for its forwards, and for inspection.

use std::sync::Arc;

use super::images::sizes;
use super::network::Network;
use crate::error::Error;
use crate::kernels::KernelTable;
use crate::memory::room;
use crate::plan::{Grouping, Plan, Step};
use crate::shape::Shape;
use crate::threads::check_threads;

/// The most pixels of a batch that is planned as one, unless it is one image: a plan has a step for
/// each block of tiles.
const MAX_PLAN_PIXELS: usize = 128 * 224 * 224;

/// A plan's bytes for each pixel of the batch, at most: a large image has many blocks of tiles, each with
/// steps of its own.
const BYTES_PER_PIXEL: usize = 4;

/// Bytes of a worker's counters in the steps of a plan, at most.
const BYTES_PER_THREAD: usize = 1 << 14;

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
        check_batch(shape)?;
        self.make_plan(shape, self.threads, Grouping::Whole)
    }

    /// The plans that a forward at `shape` on `threads` threads walks, one after the other.
    ///
    /// # Errors
    /// As for [`Network::plan`], and for [`Network::forward`] about the number of threads.
    pub fn forward_plans(&self, shape: Shape, threads: usize) -> Result<Vec<Arc<Plan>>, Error> {
        shape.check_sides()?;
        self.check_head(shape)?;
        check_batch(shape)?;
        let threads = check_threads(threads)?;
        sizes(shape, threads)
            .map(|(_, batch)| self.forward_plan(Shape { batch, ..shape }, threads))
            .collect()
    }

    /// The plan of a forward at `shape`.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn forward_plan(&self, shape: Shape, threads: usize) -> Result<Arc<Plan>, Error> {
        let make = || self.make_plan(shape, threads, Grouping::Caches);
        self.session.get().plan(shape, threads, make)
    }

    /// A plan at `shape` for `threads` threads.
    ///
    /// # Errors
    /// There is not enough memory.
    pub(super) fn make_plan(
        &self,
        shape: Shape,
        threads: usize,
        grouping: Grouping,
    ) -> Result<Plan, Error> {
        let pixels = shape.batch * shape.height * shape.width;
        let bytes = BYTES_PER_PIXEL * pixels + BYTES_PER_THREAD * threads;
        room::check(bytes + room::SMALL, "the plan of a forward")?;
        Ok(Plan::new(
            &self.layers,
            &self.weights.layers,
            shape,
            self.image_channels(),
            &self.table.shapes(),
            threads,
            grouping,
        ))
    }
}

fn check_batch(shape: Shape) -> Result<(), Error> {
    let most = (MAX_PLAN_PIXELS / (shape.height * shape.width)).max(1);
    if (1..=most).contains(&shape.batch) {
        return Ok(());
    }
    Err(Error::Argument(format!(
        "batch: expected 1 to {most} images of this size, found {}",
        shape.batch
    )))
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
