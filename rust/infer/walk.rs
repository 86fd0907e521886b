//! The walk over a plan's steps: the workers share the items of each, and wait for its end.

use super::network::Network;
use super::session::Workspace;
use crate::error::Error;
use crate::kernels::input::Pixels;
use crate::plan::{Plan, Segment, StepContext, run_item};
use crate::simd::flush_denormals;
use crate::threads::{Turn, Watch, Worker};

/// Forwards with fewer multiply-accumulates take less than a second on the slowest tier, and the caller is
/// asked only before and after them.
const MACS_BETWEEN_QUESTIONS: usize = 1 << 30;

/// The parts of one forward that its walks share.
pub(super) struct Pass<'a> {
    /// The plan.
    pub(super) plan: &'a Plan,
    /// The caller's images.
    pub(super) pixels: Pixels<'a>,
    /// The team, held until the forward has copied its results out of the arena.
    pub(super) turn: &'a Turn<'a>,
    /// Asks the caller if the forward should go on.
    pub(super) watch: Option<&'a Watch<'a>>,
}

impl Network {
    /// Runs `segments` of the plan on the team, denormals flushed. One worker calls `after_step` with a step's
    /// index when it has ended and before any worker begins the next of its track; it must do no arithmetic on
    /// floats.
    ///
    /// # Errors
    /// There is not enough memory, or the caller has ended the forward.
    pub(super) fn walk(
        &self,
        segments: &[Segment],
        pass: &Pass,
        workspace: &mut Workspace,
        after_step: &(dyn Fn(usize) + Sync),
    ) -> Result<(), Error> {
        let turn = pass.turn;
        let first = segments.first().map_or(0, |s| s.steps().start);
        let shares = segments.iter().flat_map(|s| s.shares(turn.threads()));
        workspace.progress.reset(shares);
        let context = self.context(pass, workspace)?;
        let progress = &workspace.progress;
        // A short forward is not worth the questions.
        let is_long = pass.plan.macs >= MACS_BETWEEN_QUESTIONS;
        let watch = pass.watch.filter(|_| is_long);
        let is_stopped = || watch.is_some_and(Watch::is_stopped);
        let run_step = |i: usize, share: usize, worker: &Worker| {
            let step = &pass.plan.steps[i].step;
            let work = |item| {
                if is_stopped() {
                    return;
                }
                // SAFETY: the arena is as long as the plan asks for; `progress` gives each item to one
                // worker, and lets none begin a step of a track before the last one has ended. The
                // tracks of a segment share no bytes that one of them writes, and each worker comes
                // to the end of all of them before the next segment.
                unsafe { run_item(step, item, &context) };
                if let Some(watch) = watch
                    && worker.index == 0
                {
                    watch.poll();
                }
            };
            progress.for_each(i - first, step.items(), share, work, || after_step(i));
        };
        let walk = |worker: &Worker| {
            let tracks = segments.iter().flat_map(|segment| segment.visits(worker));
            for (steps, share) in tracks {
                if steps.is_empty() || progress.has_ended(steps.end - 1 - first) {
                    continue;
                }
                for i in steps {
                    run_step(i, share, worker);
                    // Workers may leave after different steps: those that go on find nothing to do.
                    if is_stopped() {
                        return;
                    }
                }
            }
        };
        turn.run(|worker| flush_denormals(|| walk(worker)));
        match is_stopped() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }

    fn context<'a>(
        &'a self,
        pass: &Pass<'a>,
        workspace: &mut Workspace,
    ) -> Result<StepContext<'a>, Error> {
        Ok(StepContext {
            pixels: pass.pixels,
            pixel_scale: self.pixel_scale.as_ref(),
            weights: &self.weights.data,
            table: &self.table,
            arena: workspace.arena(pass.plan.arena_bytes)?.as_mut_ptr(),
        })
    }
}
