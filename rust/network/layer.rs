//! Layers: what a forward runs, after `fuse.rs` has put operations together.

pub use super::operations::TensorId;
use crate::kernels::conv::ChannelWindow;
use crate::kernels::pool::AvgWindow;

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The name of the last operation that is fused into it.
    pub name: String,
    /// The output; the residual's tensor where it is added in place.
    pub output: TensorId,
    /// What is computed.
    pub op: Op,
}

/// What a layer computes.
#[derive(Clone, Debug)]
pub enum Op {
    /// `relu(Σ convolutions + residual)`, batch norm and biases folded in.
    Conv {
        /// The inputs and their convolutions: one, or a block's last one and its shortcut.
        sources: Vec<(TensorId, ConvSpec)>,
        /// What is added before ReLU.
        residual: Option<TensorId>,
        /// Whether negative results become zero.
        relu: bool,
    },
    /// 3x3 with stride 2, padding 1.
    MaxPool(TensorId),
    /// The mean of each channel under a window.
    AvgPool(TensorId, AvgWindow),
    /// The mean of each channel over all pixels.
    GlobalAvgPool(TensorId),
    /// `relu(norm(a) + b)`, element by element: what no convolution has taken in.
    Elementwise {
        /// The first input.
        a: TensorId,
        /// A batch norm of `a`, and its channels.
        norm: Option<(Norm, usize)>,
        /// What is added.
        b: Option<TensorId>,
        /// Whether negative results become zero.
        relu: bool,
    },
}

/// A batch norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Its tensors are `<name>.running_mean` and so on.
    pub name: String,
    /// What is added to the variance.
    pub epsilon: f64,
}

/// A convolution with what follows it in the weights file.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvSpec {
    /// The weights' name: `<conv>.weight`.
    pub conv: String,
    /// Whether there is a `<conv>.bias`.
    pub bias: bool,
    /// The batch norm that is folded into it.
    pub norm: Option<Norm>,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Height and width of the window.
    pub kernel: usize,
    /// From an output pixel to the next, in input pixels.
    pub stride: usize,
    /// Rows and columns of zeros around the input.
    pub padding: usize,
    /// Groups of channels that see nothing of each other.
    pub groups: usize,
}

impl Layer {
    /// The convolutions, in the order in which they are summed.
    pub fn convs(&self) -> impl Iterator<Item = &ConvSpec> {
        let sources = match &self.op {
            Op::Conv { sources, .. } => &sources[..],
            _ => &[],
        };
        sources.iter().map(|(_, conv)| conv)
    }

    /// The tensors that are read, with the border of zeros that each wants.
    pub fn inputs(&self) -> Vec<(TensorId, usize)> {
        match &self.op {
            Op::Conv {
                sources, residual, ..
            } => {
                let padding = |(id, conv): &(TensorId, ConvSpec)| (*id, conv.padding);
                let residual = residual.iter().map(|&id| (id, 0));
                sources.iter().map(padding).chain(residual).collect()
            }
            Op::MaxPool(input) | Op::AvgPool(input, _) | Op::GlobalAvgPool(input) => {
                vec![(*input, 0)]
            }
            Op::Elementwise { a, b, .. } => [Some(*a), *b]
                .into_iter()
                .flatten()
                .map(|id| (id, 0))
                .collect(),
        }
    }

    /// Whether it is the fully connected layer.
    pub fn is_fc(&self) -> bool {
        self.name == "fc"
    }
}

impl ConvSpec {
    /// Elements of a window: of one output channel's weights.
    pub fn window_len(&self) -> usize {
        self.kernel * self.kernel * self.in_channels / self.groups
    }

    /// The input channels that each panel of `nr` output channels reads.
    pub fn channels(&self, nr: usize) -> ChannelWindow {
        ChannelWindow::new(self.in_channels, self.out_channels, self.groups, nr)
    }

    /// K of the matrix product of a panel of `nr` output channels.
    pub fn k(&self, nr: usize) -> usize {
        self.kernel * self.kernel * self.channels(nr).len
    }
}
