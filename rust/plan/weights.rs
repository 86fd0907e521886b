//! The place of each layer's packed weights, one layer after the other.

use super::choose::Algorithm;
use crate::dtype::Dtype;
use crate::graph::layer::{ConvSpec, Layer, Op};
use crate::kernels::KernelShapes;
use crate::kernels::conv::{ChannelWindow, TileShape};
use crate::kernels::view::LINE_BYTES;

/// The place of a layer's packed weights, and the arithmetic that they are packed for.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// The first byte in the network's weights, at a cache line.
    pub offset_bytes: usize,
    /// The number of bytes; 0 for a layer without weights.
    pub len_bytes: usize,
    /// The type that the layer computes in; its output has it too.
    pub dtype: Dtype,
    /// The algorithm.
    pub algorithm: Algorithm,
}

impl LayerWeights {
    /// Lays the weights of `layers` out, each packed for its algorithm and for the tier's kernels.
    pub fn lay_out(
        layers: &[Layer],
        algorithms: &[Algorithm],
        kernels: &KernelShapes,
    ) -> Vec<Self> {
        let mut end = 0_usize;
        layers
            .iter()
            .zip(algorithms)
            .map(|(layer, &algorithm)| {
                // All layers compute in f32. A choice would be made beside that of the algorithm.
                let dtype = Dtype::F32;
                let offset_bytes = end.next_multiple_of(LINE_BYTES);
                let len_bytes = len_bytes(layer, algorithm, kernels.tile(dtype));
                end = offset_bytes + len_bytes;
                Self {
                    offset_bytes,
                    len_bytes,
                    dtype,
                    algorithm,
                }
            })
            .collect()
    }

    /// The bytes of all layers.
    pub fn total_bytes(weights: &[Self]) -> usize {
        weights
            .last()
            .map_or(0, |last| last.offset_bytes + last.len_bytes)
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

fn len_bytes(layer: &Layer, algorithm: Algorithm, tile: TileShape) -> usize {
    // Values for each channel, beside panels or alone, are f32, whatever the type of the panels.
    let values = |count: usize| (count * Dtype::F32.size()).next_multiple_of(LINE_BYTES);
    let Some(conv) = layer.convs().next() else {
        // A batch norm without a convolution: scales and shifts.
        return match layer.op {
            Op::Elementwise {
                norm: Some((_, channels)),
                ..
            } => values(2 * channels),
            _ => 0,
        };
    };
    match algorithm {
        Algorithm::Direct => {
            let k = layer.convs().map(|conv| panel_k(conv, tile.nr)).sum();
            tile.packed_bytes(conv.out_channels, k)
        }
        // A matrix for each point, then the biases, which the output transform adds.
        Algorithm::Winograd(size) => {
            let matrix = tile.packed_bytes(conv.out_channels, conv.in_channels);
            size.points() * matrix + values(conv.out_channels)
        }
    }
}
