//! One step of a plan.

use crate::dtype::Dtype;
use crate::kernels::conv::winograd::{PointProducts, TileSize, TransformInput, TransformOutput};
use crate::kernels::conv::{Conv, Source};
use crate::kernels::convert::ConvertLayer;
use crate::kernels::elementwise::ElementwiseLayer;
use crate::kernels::input::InputLayer;
use crate::kernels::pool::{AvgPoolLayer, MaxPoolLayer};
use crate::kernels::view::View;

/// A step with the layer's name.
pub struct PlannedStep {
    /// torchvision's name of the last operation that is fused into the step.
    pub name: String,
    /// The work.
    pub step: Step,
    /// True if the layer's output is complete after this step.
    pub completes_layer: bool,
    /// In int8, the unit of the layer's output; 1 in f32.
    pub scale: f32,
}

/// The work of a step.
pub enum Step {
    /// Copies the images into a padded tensor.
    Input(InputLayer),
    /// A convolution, or the fully connected layer.
    Conv(Conv),
    /// A Winograd layer's first step, for a block of tiles.
    WinogradInput(TransformInput),
    /// Its second step.
    WinogradProducts(PointProducts),
    /// Its third step.
    WinogradOutput(TransformOutput),
    /// A max pool.
    MaxPool(MaxPoolLayer),
    /// An average pool, also between channels of zeros.
    AvgPool(AvgPoolLayer),
    /// A batch norm, an addition or a ReLU that is not fused into a convolution.
    Elementwise(ElementwiseLayer),
    /// The same values in another type.
    Convert(ConvertLayer),
}

impl Step {
    /// Items of work that may be done in any order, on any thread.
    pub fn items(&self) -> usize {
        match self {
            Self::Input(layer) => layer.items(),
            Self::Conv(layer) => layer.items(),
            Self::WinogradInput(layer) => layer.items(),
            Self::WinogradProducts(layer) => layer.items(),
            Self::WinogradOutput(layer) => layer.items(),
            Self::MaxPool(layer) => layer.items(),
            Self::AvgPool(layer) => layer.items(),
            Self::Elementwise(layer) => layer.items(),
            Self::Convert(layer) => layer.items(),
        }
    }

    /// The output's place.
    pub fn out(&self) -> &View {
        match self {
            Self::Input(layer) => &layer.out,
            Self::Conv(layer) => &layer.out,
            Self::WinogradInput(layer) => &layer.v,
            Self::WinogradProducts(layer) => &layer.product.out,
            Self::WinogradOutput(layer) => &layer.out,
            Self::MaxPool(layer) => &layer.out,
            Self::AvgPool(layer) => &layer.out,
            Self::Elementwise(layer) => &layer.out,
            Self::Convert(layer) => &layer.out,
        }
    }

    /// The type that the step computes in, by which its kernels are chosen.
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::Input(layer) => layer.out.dtype,
            Self::Conv(layer) => layer.dtype(),
            Self::WinogradInput(layer) => layer.v.dtype,
            Self::WinogradProducts(layer) => layer.product.dtype(),
            Self::WinogradOutput(layer) => layer.p.dtype,
            Self::MaxPool(layer) => layer.input.dtype,
            Self::AvgPool(layer) => layer.input.dtype,
            Self::Elementwise(layer) => layer.a.dtype,
            Self::Convert(layer) => layer.input.dtype,
        }
    }

    /// The output's shape: `[batch, height, width, channels]`; inside a Winograd layer
    /// `[points, 1, tiles, channels]`.
    pub fn output_shape(&self) -> [usize; 4] {
        let view = self.out();
        let batch = match self {
            Self::WinogradProducts(layer) => layer.points,
            _ => view.batch,
        };
        let width = match self {
            Self::WinogradInput(layer) => layer.block.tiles.len(),
            _ => view.width,
        };
        [batch, view.height, width, view.channels]
    }

    /// Multiply-accumulates of the step, without the few of the transforms.
    pub fn macs(&self) -> usize {
        match self {
            Self::Conv(conv) => conv.macs(),
            Self::WinogradProducts(layer) => layer.points * layer.product.macs(),
            _ => 0,
        }
    }

    /// The operation, a part of its kernel's name.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Input(_) => "copy",
            Self::Conv(_) | Self::WinogradProducts(_) => "conv",
            Self::WinogradInput(layer) => match layer.block.size {
                TileSize::Two => "winograd_f2x2_input",
                TileSize::Four => "winograd_f4x4_input",
            },
            Self::WinogradOutput(layer) => match layer.block.size {
                TileSize::Two => "winograd_f2x2_output",
                TileSize::Four => "winograd_f4x4_output",
            },
            Self::MaxPool(_) => "max_pool",
            Self::AvgPool(layer) if layer.pads() => "pad_channels",
            Self::AvgPool(_) => "avg_pool",
            Self::Elementwise(_) => "elementwise",
            Self::Convert(_) => "convert",
        }
    }

    /// The algorithm, in a word or two.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Input(_) => "pad",
            Self::Conv(conv) => {
                let plain = conv.sources.iter().all(Source::is_pixel);
                if plain { "gemm" } else { "indirect" }
            }
            Self::WinogradInput(_) | Self::WinogradProducts(_) | Self::WinogradOutput(_) => {
                "winograd"
            }
            Self::MaxPool(_) => "max pool",
            Self::AvgPool(layer) if layer.pads() => "channel pad",
            Self::AvgPool(_) => "average pool",
            Self::Elementwise(_) => "elementwise",
            Self::Convert(_) => "convert",
        }
    }
}
