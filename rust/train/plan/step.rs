//! One step of a training plan.

use crate::kernels::conv::Conv;
use crate::kernels::conv::f32::{
    BiasGradient, MaskGroups, SumParts, TransposedWeights, WeightGradient,
};
use crate::kernels::conv::mixed::{MixedKernels, RoundPanels};
use crate::kernels::conv::winograd::{
    PointProducts, TransformGradient, TransformPacked, WeightsGradient,
};
use crate::kernels::loss::CrossEntropyLayer;
use crate::kernels::norm::{
    Activate, FinishGradient, FinishStatistics, GradientSums, NormGradient, Statistics,
};
use crate::kernels::pool::{AvgPoolGradient, MaxPoolGradient};
use crate::kernels::view::View;
use crate::plan::Step;

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
    /// A convolution in bf16.
    Bf16Conv(Conv, WeightsAt),
    /// The products of a Winograd layer in bf16.
    Bf16Products(PointProducts, WeightsAt),
    /// Weights in bf16.
    Bf16Weights(RoundPanels),
    /// Weights in bf16 with inputs and outputs exchanged.
    Bf16Transposed(TransposedWeights),
    /// The gradient of a convolution by its weights, with products in bf16.
    Bf16WeightGradient(WeightGradient, OutAt),
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

impl TrainStep {
    /// Items of work that may be done in any order, on any thread.
    pub fn items(&self) -> usize {
        match self {
            Self::Run(step, _) => step.items(),
            Self::Bf16Conv(step, _) => step.items(),
            Self::Bf16Products(step, _) => step.items(),
            Self::Bf16Weights(step) => step.items(),
            Self::Transposed(step) | Self::Bf16Transposed(step) => step.items(),
            Self::Transform(step) => step.items(),
            Self::Statistics(step) => step.items(),
            Self::FinishStatistics(step) => step.items(),
            Self::Activate(step) => step.items(),
            Self::GradientSums(step) => step.items(),
            Self::FinishGradient(step) => step.items(),
            Self::NormGradient(step) => step.items(),
            Self::WeightGradient(step, _) | Self::Bf16WeightGradient(step, _) => step.items(),
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
            Self::Bf16Conv(step, _) => step.macs(),
            Self::Bf16Products(step, _) => step.points * step.product.macs(),
            Self::WeightGradient(step, _) | Self::Bf16WeightGradient(step, _) => step.macs(),
            _ => 0,
        }
    }

    /// Bytes of a worker's scratch memory.
    pub fn scratch_bytes(&self) -> usize {
        match self {
            Self::Bf16Conv(step, _) => MixedKernels::scratch_bytes(step),
            Self::Bf16Products(step, _) => MixedKernels::scratch_bytes(&step.product),
            Self::Transform(step) => step.scratch_bytes(),
            Self::WeightGradient(step, _) | Self::Bf16WeightGradient(step, _) => {
                step.scratch_bytes()
            }
            _ => 0,
        }
    }

    /// The operation, in a word or two.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Run(step, _) => step.operation(),
            Self::Bf16Conv(..) | Self::Bf16Products(..) => "bf16_conv",
            Self::Bf16Weights(_) => "bf16_weights",
            Self::Bf16Transposed(_) => "bf16_transpose_weights",
            Self::Bf16WeightGradient(..) => "bf16_weight_gradient",
            Self::Transposed(_) => "transpose_weights",
            Self::Transform(step) => match (step.transposed, step.is_rounded()) {
                (false, _) => "winograd_weights",
                (true, false) => "winograd_transposed_weights",
                (true, true) => "bf16_winograd_transposed_weights",
            },
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
