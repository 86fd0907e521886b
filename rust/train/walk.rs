//! The walk over a training plan's steps.

use super::plan::{PlannedTrainStep, TrainContext, run_item};
use crate::error::Error;
use crate::simd::flush_denormals;
use crate::threads::{Progress, Turn, Watch, Worker};

/// Runs `steps` on the team, denormals flushed.
///
/// # Errors
/// The caller has ended the call.
///
/// # Safety
/// The context is that of the plan: see [`run_item`]. Its scratch memory has room for all workers.
pub(super) unsafe fn walk(
    steps: &[PlannedTrainStep],
    turn: &Turn,
    progress: &mut Progress,
    context: &TrainContext,
    watch: Option<&Watch>,
) -> Result<(), Error> {
    progress.reset(steps.iter().map(|_| turn.threads()));
    let progress = &*progress;
    let is_stopped = || watch.is_some_and(Watch::is_stopped);
    let walk = |worker: &Worker| {
        for (i, planned) in steps.iter().enumerate() {
            let work = |item| {
                if is_stopped() {
                    return;
                }
                // SAFETY: the caller keeps the contract; `progress` gives each item to one worker, and lets
                // none begin a step before the last one has ended.
                unsafe { run_item(&planned.step, item, worker.index, context) };
                if let Some(watch) = watch
                    && worker.index == 0
                {
                    watch.poll();
                }
            };
            progress.for_each(i, planned.step.items(), worker.index, work, || ());
            // Workers may leave after different steps: those that go on find nothing to do.
            if is_stopped() {
                return;
            }
        }
    };
    turn.run(|worker| flush_denormals(|| walk(worker)));
    match is_stopped() {
        true => Err(Error::Interrupted),
        false => Ok(()),
    }
}
