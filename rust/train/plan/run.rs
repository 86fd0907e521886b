//! The work of a training step: its kernels on the plan's views.

use super::step::{OutAt, TrainStep, WeightsAt};
use crate::kernels::KernelTable;
use crate::kernels::conv::mixed::MixedKernels;
use crate::kernels::conv::winograd::PackedRoutines;
use crate::kernels::input::Pixels;
use crate::kernels::loss::ImageLoss;
use crate::plan::{self, StepContext};

/// The state that the steps of one pass share.
#[derive(Clone, Copy)]
pub struct TrainContext<'a> {
    /// The caller's images.
    pub pixels: Pixels<'a>,
    /// The parameters.
    pub parameters: &'a [f32],
    /// Their gradients.
    pub gradients: *mut f32,
    /// The running statistics.
    pub running: *mut f32,
    /// The labels, `[batch, classes]`.
    pub targets: &'a [f32],
    /// The losses, a place for each image.
    pub losses: *mut ImageLoss,
    /// The tier's kernels.
    pub table: &'a KernelTable,
    /// Those of bf16, if the plan has steps for them.
    pub bf16: Option<&'a MixedKernels>,
    /// The arena.
    pub arena: *mut u8,
    /// Scratch memory of all workers.
    pub scratch: *mut u8,
    /// Bytes of one worker's.
    pub scratch_bytes: usize,
}

// SAFETY: the pointers are only written through `run_item`, whose callers keep its contract.
unsafe impl Sync for TrainContext<'_> {}

/// Does one item of `step` on worker `worker`.
///
/// # Safety
/// The arena holds as many bytes as the plan asks for and starts at a cache line, and so does the scratch
/// memory for each worker; parameters, gradients and running statistics are those that the plan was made
/// for, and the images have its shape. All threads are past the steps before, and each item is done by one
/// thread.
pub unsafe fn run_item(step: &TrainStep, item: usize, worker: usize, context: &TrainContext) {
    let TrainContext {
        pixels,
        parameters,
        gradients,
        running,
        targets,
        losses,
        table,
        bf16,
        arena,
        scratch,
        scratch_bytes,
    } = *context;
    let kernels = &table.f32;
    let bf16 =
        || bf16.unwrap_or_else(|| unreachable!("a plan with steps in bf16 comes with kernels"));
    let scratch = scratch.wrapping_add(worker * scratch_bytes);
    // SAFETY: the caller keeps the same contract, and the kernels prove the tier; the plan has placed every view
    // inside the arena, and tensors that are alive together apart.
    unsafe {
        match step {
            TrainStep::Run(step, at) => {
                let weights = weights_of(*at, context);
                let context = StepContext {
                    pixels,
                    pixel_scale: None,
                    weights,
                    table,
                    arena,
                };
                plan::run_item(step, item, &context);
            }
            TrainStep::Bf16Conv(conv, at) => {
                bf16().run_item(conv, item, arena, weights_of(*at, context), scratch);
            }
            TrainStep::Bf16Products(step, at) => {
                let weights = weights_of(*at, context);
                step.run_item_bf16(item, arena, weights, scratch, bf16());
            }
            TrainStep::Bf16Weights(step) => step.run_item(item, arena, parameters, bf16().round),
            TrainStep::Bf16Transposed(step) => {
                step.run_item_bf16(item, arena, parameters, bf16().transpose);
            }
            TrainStep::Transposed(step) => {
                let transpose = kernels.weight_gradient.transpose;
                step.run_item(item, arena, parameters, transpose);
            }
            TrainStep::Transform(step) => {
                let routines = PackedRoutines {
                    transform: kernels.winograd.of_size(step.size).packed,
                    transpose: kernels.weight_gradient.transpose,
                    round: context.bf16.map(|kernels| kernels.round),
                };
                step.run_item(item, arena, parameters, scratch.cast(), &routines);
            }
            TrainStep::Statistics(step) => step.run_item(item, arena, kernels.norm.moments),
            TrainStep::FinishStatistics(step) => {
                step.run_item(item, arena, parameters.as_ptr(), running);
            }
            TrainStep::Activate(step) => step.run_item(item, arena, kernels.norm.activate),
            TrainStep::GradientSums(step) => step.run_item(item, arena, kernels.norm.sums),
            TrainStep::FinishGradient(step) => step.run_item(item, arena, gradients),
            TrainStep::NormGradient(step) => step.run_item(item, arena, kernels.norm.gradient),
            TrainStep::WeightGradient(step, at) => {
                let out = out_of(*at, context);
                step.run_item(item, arena, out, scratch.cast(), &kernels.weight_gradient);
            }
            TrainStep::Bf16WeightGradient(step, at) => {
                let out = out_of(*at, context);
                step.run_item(item, arena, out, scratch.cast(), &bf16().weight_gradient);
            }
            TrainStep::SumParts(step) => {
                step.run_item(item, arena, gradients, kernels.weight_gradient.sum);
            }
            TrainStep::TransformGradient(step) => {
                let transforms = kernels.winograd.of_size(step.block.size);
                step.run_item(item, arena, transforms.gradient);
            }
            TrainStep::WeightsGradient(step) => {
                let transforms = kernels.winograd.of_size(step.size);
                step.run_item(item, arena, gradients, transforms.gradient_row);
            }
            TrainStep::MaskGroups(step) => step.run_item(item, gradients),
            TrainStep::BiasGradient(step) => step.run_item(item, arena, gradients),
            TrainStep::Loss(step) => {
                let kernel = kernels.loss.cross_entropy;
                step.run_item(item, arena, targets, 1.0, losses, kernel);
            }
            TrainStep::MaxPoolGradient(step) => {
                step.run_item(item, arena, kernels.pool_gradients.max);
            }
            TrainStep::AvgPoolGradient(step) => {
                step.run_item(item, arena, kernels.pool_gradients.avg);
            }
            TrainStep::ZeroBorder(view) => view.zero_border(item, arena),
            TrainStep::Zero(view) => view.zero_image(item, arena),
        }
    }
}

/// The packed weights at `at`.
///
/// # Safety
/// As for [`run_item`]; no thread writes them meanwhile.
unsafe fn weights_of<'a>(at: WeightsAt, context: &TrainContext<'a>) -> &'a [u8] {
    match at {
        WeightsAt::Parameters => bytemuck::cast_slice(context.parameters),
        WeightsAt::Arena {
            offset_bytes,
            len_bytes,
        } => {
            let start = context.arena.wrapping_add(offset_bytes);
            // SAFETY: the plan has placed them inside the arena.
            unsafe { std::slice::from_raw_parts(start, len_bytes) }
        }
    }
}

/// The place of a weight gradient.
fn out_of(at: OutAt, context: &TrainContext) -> *mut f32 {
    match at {
        OutAt::Gradients(first) => context.gradients.wrapping_add(first),
        OutAt::Arena(bytes) => context.arena.wrapping_add(bytes).cast(),
    }
}
