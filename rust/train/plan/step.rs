//! One step of a training plan, and its work.

use crate::kernels::KernelTable;
use crate::kernels::conv::f32::{
    BiasGradient, MaskGroups, SumParts, TransposedWeights, WeightGradient,
};
use crate::kernels::conv::winograd::{TransformGradient, TransformPacked, WeightsGradient};
use crate::kernels::input::Pixels;
use crate::kernels::loss::{CrossEntropyLayer, ImageLoss};
use crate::kernels::norm::{
    Activate, FinishGradient, FinishStatistics, GradientSums, NormGradient, Statistics,
};
use crate::kernels::pool::{AvgPoolGradient, MaxPoolGradient};
use crate::kernels::view::View;
use crate::plan::{self, Step, StepContext};

/// A step with the name of its node.
pub struct PlannedTrainStep {
    /// torchvision's name of the last operation in the node.
    pub name: String,
    /// True in the backward pass.
    pub is_backward: bool,
    /// The work.
    pub step: TrainStep,
}

/// The place of a step's packed weights.
#[derive(Clone, Copy, Debug)]
pub enum WeightsAt {
    /// The parameters.
    Parameters,
    /// So many bytes of the arena: transformed or transposed weights.
    Arena {
        /// The first byte.
        offset_bytes: usize,
        /// The number of bytes.
        len_bytes: usize,
    },
}

/// The place of a weight gradient.
#[derive(Clone, Copy, Debug)]
pub enum OutAt {
    /// The gradients, from this element on.
    Gradients(usize),
    /// The arena, from this byte on: parts that have to be added up.
    Arena(usize),
}

/// The work of a step.
pub enum TrainStep {
    /// A step that inference has too.
    Run(Step, WeightsAt),
    /// Weights with inputs and outputs exchanged.
    Transposed(TransposedWeights),
    /// Weights for Winograd's algorithm.
    Transform(TransformPacked),
    /// The moments of a convolution's output.
    Statistics(Statistics),
    /// From moments to coefficients.
    FinishStatistics(FinishStatistics),
    /// Batch norm, addition and ReLU.
    Activate(Activate),
    /// The sums of the backward pass.
    GradientSums(GradientSums),
    /// From sums to coefficients.
    FinishGradient(FinishGradient),
    /// Backwards through ReLU and batch norm.
    NormGradient(NormGradient),
    /// The gradient of a convolution by its weights.
    WeightGradient(WeightGradient, OutAt),
    /// Its parts added up.
    SumParts(SumParts),
    /// The transform of an output's gradient.
    TransformGradient(TransformGradient),
    /// The gradient of weights from its transform.
    WeightsGradient(WeightsGradient),
    /// Zeros between groups.
    MaskGroups(MaskGroups),
    /// The gradient of biases.
    BiasGradient(BiasGradient),
    /// The loss.
    Loss(CrossEntropyLayer),
    /// Backwards through a max pool.
    MaxPoolGradient(MaxPoolGradient),
    /// Backwards through an average pool.
    AvgPoolGradient(AvgPoolGradient),
    /// Zeros.
    Zero(View),
    /// Zeros around a tensor.
    ZeroBorder(View),
}

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
    /// The arena.
    pub arena: *mut u8,
    /// Scratch memory of all workers.
    pub scratch: *mut u8,
    /// Bytes of one worker's.
    pub scratch_bytes: usize,
}

// SAFETY: the pointers are only written through `run_item`, whose callers keep its contract.
unsafe impl Sync for TrainContext<'_> {}

impl TrainStep {
    /// Items of work that may be done in any order, on any thread.
    pub fn items(&self) -> usize {
        match self {
            Self::Run(step, _) => step.items(),
            Self::Transposed(step) => step.items(),
            Self::Transform(step) => step.items(),
            Self::Statistics(step) => step.items(),
            Self::FinishStatistics(step) => step.items(),
            Self::Activate(step) => step.items(),
            Self::GradientSums(step) => step.items(),
            Self::FinishGradient(step) => step.items(),
            Self::NormGradient(step) => step.items(),
            Self::WeightGradient(step, _) => step.items(),
            Self::SumParts(step) => step.items(),
            Self::TransformGradient(step) => step.items(),
            Self::WeightsGradient(step) => step.items(),
            Self::MaskGroups(step) => step.items(),
            Self::BiasGradient(step) => step.items(),
            Self::Loss(step) => step.items(),
            Self::MaxPoolGradient(step) => step.items(),
            Self::AvgPoolGradient(step) => step.items(),
            Self::Zero(view) | Self::ZeroBorder(view) => view.batch,
        }
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> usize {
        match self {
            Self::Run(step, _) => step.macs(),
            Self::WeightGradient(step, _) => step.macs(),
            _ => 0,
        }
    }

    /// Bytes of a worker's scratch memory.
    pub fn scratch_bytes(&self) -> usize {
        match self {
            Self::WeightGradient(step, _) => step.scratch_bytes(),
            _ => 0,
        }
    }

    /// The operation, in a word or two.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Run(step, _) => step.operation(),
            Self::Transposed(_) => "transpose_weights",
            Self::Transform(step) if step.transposed => "winograd_transposed_weights",
            Self::Transform(_) => "winograd_weights",
            Self::Statistics(_) => "statistics",
            Self::FinishStatistics(_) => "finish_statistics",
            Self::Activate(_) => "activate",
            Self::GradientSums(_) => "gradient_sums",
            Self::FinishGradient(_) => "finish_gradient",
            Self::NormGradient(_) => "norm_gradient",
            Self::WeightGradient(..) => "weight_gradient",
            Self::SumParts(_) => "sum_parts",
            Self::TransformGradient(_) => "winograd_gradient",
            Self::WeightsGradient(_) => "winograd_weights_gradient",
            Self::MaskGroups(_) => "mask_groups",
            Self::BiasGradient(_) => "bias_gradient",
            Self::Loss(_) => "loss",
            Self::MaxPoolGradient(_) => "max_pool_gradient",
            Self::AvgPoolGradient(_) => "avg_pool_gradient",
            Self::Zero(_) => "zero",
            Self::ZeroBorder(_) => "zero_border",
        }
    }
}

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
        arena,
        scratch,
        scratch_bytes,
    } = *context;
    let kernels = &table.f32;
    // SAFETY: the caller keeps the same contract, and the kernels prove the tier; the plan has placed every view
    // inside the arena, and tensors that are alive together apart.
    unsafe {
        match step {
            TrainStep::Run(step, at) => {
                let weights = match *at {
                    WeightsAt::Parameters => bytemuck::cast_slice(parameters),
                    WeightsAt::Arena {
                        offset_bytes,
                        len_bytes,
                    } => std::slice::from_raw_parts(arena.add(offset_bytes), len_bytes),
                };
                let context = StepContext {
                    pixels,
                    weights,
                    table,
                    arena,
                };
                plan::run_item(step, item, &context);
            }
            TrainStep::Transposed(step) => {
                let transpose = kernels.weight_gradient.transpose;
                step.run_item(item, arena, parameters, transpose);
            }
            TrainStep::Transform(step) => {
                let transform = kernels.winograd.of_size(step.size).packed;
                let transpose = kernels.weight_gradient.transpose;
                step.run_item(item, arena, parameters, transform, transpose);
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
                let out = match *at {
                    OutAt::Gradients(first) => gradients.add(first),
                    OutAt::Arena(bytes) => arena.add(bytes).cast(),
                };
                let scratch = scratch.add(worker * scratch_bytes).cast();
                step.run_item(item, arena, out, scratch, &kernels.weight_gradient);
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
