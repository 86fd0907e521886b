//! The operations of a network as the paper draws it, one by one, in execution order.
//!
//! The weights' names refer to these operations, the reference computes them one by one, and
//! `fuse.rs` turns them into the layers of a forward.

use crate::shape::{PoolWindow, Window};

/// A tensor between operations (or layers): 0 is the image, i + 1 the output of operation i.
pub type TensorId = usize;

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// torchvision's name, if it has one; the names of the operation's tensors start with it.
    pub name: String,
    /// The tensors that it reads.
    pub inputs: Vec<TensorId>,
    /// The computation.
    pub kind: Kind,
}

/// The kinds of operations.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A convolution.
    Conv(Convolution),
    /// `(x - mean) / sqrt(variance + epsilon) · γ + β` for each channel.
    BatchNorm {
        /// Channels of the input and the output.
        channels: usize,
        /// Added to the variance.
        epsilon: f64,
    },
    /// `max(x, 0)`.
    Relu,
    /// The sum of two tensors.
    Add,
    /// The largest value of each channel under a window, or over all pixels if there is none.
    MaxPool(Option<PoolWindow>),
    /// The mean of each channel under a window, or over all pixels if there is none.
    AvgPool(Option<PoolWindow>),
    /// The mean of each channel under a window, between channels of zeros.
    Pad(ChannelPad),
    /// A matrix and a bias, over the whole map.
    Linear {
        /// Channels of the map.
        channels: usize,
        /// Height and width of the map.
        side: usize,
        /// Outputs.
        classes: usize,
    },
}

/// A shortcut without weights: fewer pixels and more channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelPad {
    /// The pixels whose mean is taken; a window of one pixel takes every `stride`-th.
    pub window: PoolWindow,
    /// Channels of zeros before those of the input.
    pub before: usize,
    /// Channels of zeros after them.
    pub after: usize,
}

/// The numbers of a convolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
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
    /// True if there is a bias.
    pub bias: bool,
}

impl Convolution {
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

impl Operation {
    /// The convolution that the operation is; the fully connected layer is one whose window is the whole map.
    pub fn convolution(&self) -> Option<Convolution> {
        match self.kind {
            Kind::Conv(ref conv) => Some(conv.clone()),
            Kind::Linear {
                channels,
                side,
                classes,
            } => Some(Convolution {
                in_channels: channels,
                out_channels: classes,
                kernel: side,
                stride: 1,
                padding: 0,
                dilation: 1,
                groups: 1,
                bias: true,
            }),
            _ => None,
        }
    }

    /// The operation's tensors by their names in the weights, with their shapes.
    pub fn named_parameters(&self) -> Vec<(String, Vec<usize>)> {
        let name = |(part, shape)| (format!("{}.{part}", self.name), shape);
        self.parameters().into_iter().map(name).collect()
    }

    /// The operation's tensors: the part after its name, and the shape.
    pub fn parameters(&self) -> Vec<(&'static str, Vec<usize>)> {
        match self.kind {
            Kind::Conv(ref conv) => {
                let &Convolution {
                    in_channels,
                    out_channels,
                    kernel,
                    groups,
                    bias,
                    ..
                } = conv;
                let shape = vec![out_channels, in_channels / groups, kernel, kernel];
                let mut parameters = vec![("weight", shape)];
                if bias {
                    parameters.push(("bias", vec![out_channels]));
                }
                parameters
            }
            Kind::BatchNorm { channels, .. } => ["weight", "bias", "running_mean", "running_var"]
                .map(|part| (part, vec![channels]))
                .to_vec(),
            Kind::Linear {
                channels,
                side,
                classes,
            } => vec![
                ("weight", vec![classes, channels * side * side]),
                ("bias", vec![classes]),
            ],
            _ => Vec::new(),
        }
    }

    /// The output's `[height, width, channels]`; `inputs` holds those of all tensors by id.
    pub fn output(&self, inputs: &[[usize; 3]]) -> [usize; 3] {
        let [height, width, channels] = inputs[self.inputs[0]];
        match self.kind {
            Kind::Conv(ref conv) => {
                let window = conv.window();
                [
                    window.output(height),
                    window.output(width),
                    conv.out_channels,
                ]
            }
            Kind::BatchNorm { .. } | Kind::Relu | Kind::Add => [height, width, channels],
            Kind::MaxPool(Some(window)) | Kind::AvgPool(Some(window)) => {
                [window.output(height), window.output(width), channels]
            }
            Kind::MaxPool(None) | Kind::AvgPool(None) => [1, 1, channels],
            Kind::Pad(ChannelPad {
                window,
                before,
                after,
            }) => [
                window.output(height),
                window.output(width),
                before + channels + after,
            ],
            Kind::Linear { classes, .. } => [1, 1, classes],
        }
    }
}

/// `[height, width, channels]` of the image and of each operation's output.
pub fn output_shapes(operations: &[Operation], image: [usize; 3]) -> Vec<[usize; 3]> {
    let mut shapes = vec![image];
    for operation in operations {
        shapes.push(operation.output(&shapes));
    }
    shapes
}
