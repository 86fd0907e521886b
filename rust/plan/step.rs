//! One step of a plan.

use crate::kernels::KernelTable;
use crate::kernels::conv::{Conv, Source};
use crate::kernels::elementwise::ElementwiseLayer;
use crate::kernels::input::{InputLayer, Pixels};
use crate::kernels::pool::{AvgPoolLayer, MaxPoolLayer};
use crate::kernels::view::View;
use crate::kernels::winograd::{PointProducts, TileSize, TransformInput, TransformOutput};

/// A step with the layer's name.
pub struct PlannedStep {
    /// torchvision's name of the last operation that is fused into the step.
    pub name: String,
    /// What is done.
    pub step: Step,
    /// Whether the layer's output is complete after it.
    pub completes_layer: bool,
}

/// What a step does.
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
    /// An average pool.
    AvgPool(AvgPoolLayer),
    /// Batch norm, addition or ReLU by itself.
    Elementwise(ElementwiseLayer),
}

/// What the steps of one forward share.
#[derive(Clone, Copy)]
pub struct StepContext<'a> {
    /// The caller's images.
    pub pixels: Pixels<'a>,
    /// The packed weights of the network.
    pub weights: &'a [f32],
    /// The tier's kernels.
    pub table: &'a KernelTable,
    /// The arena.
    pub arena: *mut f32,
}

// SAFETY: `arena` is only written through `Step::run_item`, whose callers keep to its rules.
unsafe impl Sync for StepContext<'_> {}

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
        }
    }

    /// Where the output lies.
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

    /// Does one item.
    ///
    /// # Safety
    /// `context.arena` holds as many elements as the plan asks for; the images have the plan's
    /// shape and the weights are those it was made for. All threads are past the steps before,
    /// and each item is done by one thread.
    pub unsafe fn run_item(&self, item: usize, context: &StepContext) {
        let StepContext {
            pixels,
            weights,
            table,
            arena,
        } = *context;
        // SAFETY: the caller's; the plan has put every view inside the arena, and tensors that
        // are alive together apart.
        unsafe {
            match self {
                Self::Input(layer) => layer.run_item(item, pixels, arena),
                Self::Conv(layer) => layer.run_item(item, arena, weights, table),
                Self::WinogradInput(layer) => layer.run_item(item, arena, table),
                Self::WinogradProducts(layer) => layer.run_item(item, arena, weights, table),
                Self::WinogradOutput(layer) => layer.run_item(item, arena, weights, table),
                Self::MaxPool(layer) => layer.run_item(item, arena, table),
                Self::AvgPool(layer) => layer.run_item(item, arena, table),
                Self::Elementwise(layer) => layer.run_item(item, arena, weights, table),
            }
        }
    }

    /// Multiply-accumulates that the step does, the transforms' few aside.
    pub fn macs(&self) -> usize {
        match self {
            Self::Conv(conv) => conv.macs(),
            Self::WinogradProducts(layer) => layer.points * layer.product.macs(),
            _ => 0,
        }
    }

    /// The kernel's name.
    pub fn kernel(&self, table: &KernelTable) -> String {
        let op = match self {
            Self::Input(_) => return "copy".into(),
            Self::Conv(_) | Self::WinogradProducts(_) => return table.conv_name(),
            Self::WinogradInput(layer) => match layer.block.size {
                TileSize::Two => "winograd_f2x2_input",
                TileSize::Four => "winograd_f4x4_input",
            },
            Self::WinogradOutput(layer) => match layer.block.size {
                TileSize::Two => "winograd_f2x2_output",
                TileSize::Four => "winograd_f4x4_output",
            },
            Self::MaxPool(_) => "max_pool",
            Self::AvgPool(_) => "avg_pool",
            Self::Elementwise(_) => "elementwise",
        };
        format!("f32_{op}_{}", table.isa)
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
            Self::AvgPool(_) => "average pool",
            Self::Elementwise(_) => "elementwise",
        }
    }
}
