//! The walk over a plan's steps: each worker does its items, then all wait for each other.

use std::sync::atomic::{AtomicBool, Ordering};

use super::network::Network;
use super::session::Workspace;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::kernels::input::Pixels;
use crate::kernels::{F32Kernels, KernelTable};
use crate::plan::{Plan, PlannedStep, Step};
use crate::simd::flush_denormals;
use crate::threads::{Turn, Watch, Worker};

/// Forwards with fewer multiply-accumulates take less than a second on the slowest tier, and the caller is
/// asked only before and after them.
const MACS_BETWEEN_QUESTIONS: usize = 1 << 30;

/// The state that the steps of one forward share.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// The caller's images.
    pub pixels: Pixels<'a>,
    /// The packed weights of the network.
    pub weights: &'a [u8],
    /// The tier's kernels.
    pub table: &'a KernelTable,
    /// The arena.
    pub arena: *mut u8,
}

// SAFETY: `arena` is only written through [`run_item`], whose callers keep its contract.
unsafe impl Sync for StepContext<'_> {}

/// Does one item of `step`.
///
/// # Safety
/// `context.arena` holds as many bytes as the plan asks for, and starts at a cache line; the images
/// have the plan's shape, and the weights are those that it was made for. All threads are past the
/// steps before, and each item is done by one thread.
pub unsafe fn run_item(step: &Step, item: usize, context: &StepContext) {
    match step.dtype() {
        // SAFETY: the caller keeps the same contract; the table proves the tier.
        Dtype::F32 => unsafe { run_item_f32(step, item, context, &context.table.f32) },
    }
}

/// [`run_item`] for a step that computes in f32.
unsafe fn run_item_f32(step: &Step, item: usize, context: &StepContext, kernels: &F32Kernels) {
    let StepContext {
        pixels,
        weights,
        arena,
        ..
    } = *context;
    // SAFETY: the caller keeps the same contract, and the kernels prove the tier; the plan has placed
    // every view inside the arena, and tensors that are alive together apart.
    unsafe {
        match step {
            Step::Input(layer) => layer.run_item(item, pixels, arena),
            Step::Conv(layer) => kernels.conv.run_item(layer, item, arena, weights),
            Step::WinogradInput(layer) => layer.run_item(item, arena, &kernels.winograd),
            Step::WinogradProducts(layer) => layer.run_item(item, arena, weights, &kernels.conv),
            Step::WinogradOutput(layer) => {
                layer.run_item(item, arena, weights, &kernels.winograd);
            }
            Step::MaxPool(layer) => layer.run_item(item, arena, kernels.pool.max),
            Step::AvgPool(layer) => layer.run_item(item, arena, kernels.pool.avg),
            Step::Elementwise(layer) => {
                layer.run_item(item, arena, weights, kernels.elementwise);
            }
        }
    }
}

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
    /// Runs `steps` on the team, denormals flushed. One worker calls `after_step` when a step is done
    /// and before any worker begins the next; it must do no arithmetic on floats.
    ///
    /// # Errors
    /// There is not enough memory, or the caller has ended the forward.
    pub(super) fn walk(
        &self,
        steps: &[PlannedStep],
        pass: &Pass,
        workspace: &mut Workspace,
        after_step: &(dyn Fn(usize) + Sync),
    ) -> Result<(), Error> {
        let turn = pass.turn;
        workspace.shares.reset(steps.len(), turn.threads());
        let context = self.context(pass, workspace)?;
        let shares = &workspace.shares;
        // A short forward is not worth the questions.
        let is_long = pass.plan.macs >= MACS_BETWEEN_QUESTIONS;
        let watch = pass.watch.filter(|_| is_long);
        let is_over = AtomicBool::new(false);
        let walk = |worker: &Worker| {
            for (i, PlannedStep { step, .. }) in steps.iter().enumerate() {
                shares.for_each(i, step.items(), worker, |item| {
                    if watch.is_some_and(Watch::is_stopped) {
                        return;
                    }
                    // SAFETY: the arena is as long as the plan asks for; `shares` gives each item
                    // to one worker, and the barrier below ends a step before the next begins.
                    unsafe { run_item(step, item, &context) };
                    if let Some(watch) = watch
                        && worker.index == 0
                    {
                        watch.poll();
                    }
                });
                worker.wait_then(|| {
                    after_step(i);
                    // All workers have arrived, so all see the same answer and leave after the same step.
                    is_over.store(watch.is_some_and(Watch::is_stopped), Ordering::Relaxed);
                });
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        };
        turn.run(|worker| flush_denormals(|| walk(worker)));
        match is_over.into_inner() {
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
            weights: &self.weights.data,
            table: &self.table,
            arena: workspace.arena(pass.plan.arena_bytes)?.as_mut_ptr(),
        })
    }
}
