//! Layers: the units of a forward, made of operations by `fuse.rs`.

use super::operations::ChannelPad;
pub use super::operations::TensorId;
use crate::shape::{PoolWindow, Window};

/// One layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The name of the last operation that is fused into it.
    pub name: String,
    /// The output; the residual's tensor if it is added in place.
    pub output: TensorId,
    /// The computation.
    pub op: Op,
}

/// The computation of a layer.
#[derive(Clone, Debug)]
pub enum Op {
    /// `relu(Σ convolutions + residual)`, batch norm and biases folded in.
    Conv {
        /// The inputs and their convolutions: one, or a block's last one and its shortcut.
        sources: Vec<(TensorId, ConvSpec)>,
        /// Added before ReLU.
        residual: Option<TensorId>,
        /// Makes negative results zero.
        relu: bool,
    },
    /// The largest value of each channel under a window, or over all pixels if there is none.
    MaxPool(TensorId, Option<PoolWindow>),
    /// The mean of each channel under a window, or over all pixels if there is none.
    AvgPool(TensorId, Option<PoolWindow>),
    /// The mean of each channel under a window, between channels of zeros.
    Pad(TensorId, ChannelPad),
    /// `relu(norm(a) + b)`, element by element: operations that are not fused into a convolution.
    Elementwise {
        /// The first input.
        a: TensorId,
        /// A batch norm of `a`, and its channels.
        norm: Option<(Norm, usize)>,
        /// Added to it.
        b: Option<TensorId>,
        /// Makes negative results zero.
        relu: bool,
    },
    /// The same values in another type, for a layer that computes in it.
    Convert(TensorId),
}

/// A batch norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Its tensors are `<name>.running_mean` and so on.
    pub name: String,
    /// Added to the variance.
    pub epsilon: f64,
}

/// A convolution, its bias and its batch norm.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvSpec {
    /// The weights' name: `<conv>.weight`.
    pub conv: String,
    /// True if there is a `<conv>.bias`.
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
    /// From a tap to the next, in input pixels.
    pub dilation: usize,
    /// Groups of channels that do not mix.
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

    /// The tensors that are read, with the border of zeros that each needs.
    pub fn inputs(&self) -> Vec<(TensorId, usize)> {
        match &self.op {
            Op::Conv {
                sources, residual, ..
            } => {
                let padding = |(id, conv): &(TensorId, ConvSpec)| (*id, conv.padding);
                let residual = residual.iter().map(|&id| (id, 0));
                sources.iter().map(padding).chain(residual).collect()
            }
            Op::MaxPool(input, _)
            | Op::AvgPool(input, _)
            | Op::Pad(input, _)
            | Op::Convert(input) => {
                vec![(*input, 0)]
            }
            Op::Elementwise { a, b, .. } => [Some(*a), *b]
                .into_iter()
                .flatten()
                .map(|id| (id, 0))
                .collect(),
        }
    }

    /// True for a layer that computes operations of the network, and not only changes the type of their results.
    pub fn is_named(&self) -> bool {
        !matches!(self.op, Op::Convert(_))
    }

    /// True for the fully connected layer.
    pub fn is_fc(&self) -> bool {
        self.name == "fc"
    }
}

impl ConvSpec {
    /// Elements of a window, that is, weights of one output channel.
    pub fn window_len(&self) -> usize {
        self.kernel * self.kernel * self.in_channels / self.groups
    }

    /// The window and how it moves.
    pub fn window(&self) -> Window {
        Window {
            kernel: self.kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
        }
    }
}
