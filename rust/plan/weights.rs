//! The place of each layer's packed weights, one layer behind the other.

use super::choose::Algorithm;
use crate::graph::layer::{ConvSpec, Layer, Op};
use crate::kernels::conv::{ChannelWindow, packed_len};
use crate::kernels::view::LINE;

/// The place of a layer's packed weights, and the algorithm that they are packed for.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// The first element in the network's weights.
    pub start: usize,
    /// The number of elements; 0 for a layer without weights.
    pub len: usize,
    /// The algorithm.
    pub algorithm: Algorithm,
}

impl LayerWeights {
    /// Lays the weights of `layers` out, each packed for its algorithm in panels of `nr` channels.
    pub fn lay_out(layers: &[Layer], algorithms: &[Algorithm], nr: usize) -> Vec<Self> {
        let mut start = 0;
        layers
            .iter()
            .zip(algorithms)
            .map(|(layer, &algorithm)| {
                let len = weights_len(layer, algorithm, nr);
                start += len;
                Self {
                    start: start - len,
                    len,
                    algorithm,
                }
            })
            .collect()
    }

    /// The elements of all layers.
    pub fn total(weights: &[Self]) -> usize {
        weights.last().map_or(0, |last| last.start + last.len)
    }
}

/// The input channels that each panel of `nr` output channels reads.
pub fn panel_channels(conv: &ConvSpec, nr: usize) -> ChannelWindow {
    ChannelWindow::new(conv.in_channels, conv.out_channels, conv.groups, nr)
}

/// K of the matrix product of a panel of `nr` output channels.
pub fn panel_k(conv: &ConvSpec, nr: usize) -> usize {
    conv.kernel * conv.kernel * panel_channels(conv, nr).len
}

fn weights_len(layer: &Layer, algorithm: Algorithm, nr: usize) -> usize {
    let Some(conv) = layer.convs().next() else {
        // A batch norm by itself: scales and shifts.
        return match layer.op {
            Op::Elementwise {
                norm: Some((_, channels)),
                ..
            } => (2 * channels).next_multiple_of(LINE),
            _ => 0,
        };
    };
    match algorithm {
        Algorithm::Direct => {
            let k = layer.convs().map(|conv| panel_k(conv, nr)).sum();
            packed_len(conv.out_channels, k, nr)
        }
        // A matrix for each point, then the biases, which the output transform adds.
        Algorithm::Winograd(size) => {
            let matrix = packed_len(conv.out_channels, conv.in_channels, nr);
            size.points() * matrix + conv.out_channels.next_multiple_of(LINE)
        }
    }
}
