//! The place of each layer's packed weights, one layer after the other.

use super::choose::Algorithm;
use crate::dtype::Dtype;
use crate::graph::layer::{ConvSpec, Layer, Op};
use crate::kernels::KernelShapes;
use crate::kernels::conv::{ChannelWindow, TileShape};
use crate::kernels::view::LINE_BYTES;

/// The arithmetic of a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arithmetic {
    /// The type of its inputs, by which its kernels are chosen.
    pub dtype: Dtype,
    /// The type of its output.
    pub out: Dtype,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// In int8, the units of its tensors.
    pub scales: Scales,
    /// In int8, the largest value of its first input.
    pub most_in: f32,
    /// In int8, the largest value of its output.
    pub most: f32,
}

/// The largest value of what the pool before fc computes in int8: 12 bits, which fc multiplies by 8.
pub const HEAD_MOST: f32 = 4095.0;

/// The units of a layer's tensors in int8: the real value of 1. In f32 all are 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scales {
    /// Of the first input.
    pub input: f32,
    /// Of the shortcut's input, if its convolution is fused.
    pub shortcut: f32,
    /// Of the residual.
    pub residual: f32,
    /// Of the output.
    pub output: f32,
}

impl Scales {
    /// Those of f32.
    pub const F32: Self = Self {
        input: 1.0,
        shortcut: 1.0,
        residual: 1.0,
        output: 1.0,
    };
}

impl Arithmetic {
    /// The arithmetic of an f32 layer.
    pub fn f32(algorithm: Algorithm) -> Self {
        Self::real(Dtype::F32, Dtype::F32, algorithm)
    }

    /// The arithmetic of a bf16 layer. fc's results are f32.
    pub fn bf16(layer: &Layer) -> Self {
        let out = match layer.is_fc() {
            true => Dtype::F32,
            false => Dtype::Bf16,
        };
        Self::real(Dtype::Bf16, out, Algorithm::Direct)
    }

    fn real(dtype: Dtype, out: Dtype, algorithm: Algorithm) -> Self {
        Self {
            dtype,
            out,
            algorithm,
            scales: Scales::F32,
            most_in: f32::MAX,
            most: f32::MAX,
        }
    }
}

/// The place of a layer's packed weights, and the arithmetic that they are packed for.
#[derive(Clone, Copy, Debug)]
pub struct LayerWeights {
    /// The first byte in the network's weights, at a cache line.
    pub offset_bytes: usize,
    /// The number of bytes; 0 for a layer without weights.
    pub len_bytes: usize,
    /// The arithmetic.
    pub arithmetic: Arithmetic,
}

impl LayerWeights {
    /// Lays the weights of `layers` out, each packed for its arithmetic and for the tier's kernels.
    pub fn lay_out(
        layers: &[Layer],
        arithmetic: &[Arithmetic],
        kernels: &KernelShapes,
    ) -> Vec<Self> {
        let mut end = 0_usize;
        layers
            .iter()
            .zip(arithmetic)
            .map(|(layer, &arithmetic)| {
                let offset_bytes = end.next_multiple_of(LINE_BYTES);
                let tile = kernels.tile(arithmetic.dtype);
                let len_bytes = len_bytes(layer, arithmetic.algorithm, tile);
                end = offset_bytes + len_bytes;
                Self {
                    offset_bytes,
                    len_bytes,
                    arithmetic,
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

/// The input channels that each panel of a tile reads.
pub fn panel_channels(conv: &ConvSpec, tile: TileShape) -> ChannelWindow {
    let channels = ChannelWindow::new(conv.in_channels, conv.out_channels, conv.groups, tile.nr);
    channels.aligned(tile.depth)
}

/// K of the matrix product of a panel of a tile.
pub fn panel_k(conv: &ConvSpec, tile: TileShape) -> usize {
    conv.kernel * conv.kernel * panel_channels(conv, tile).len
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
            let k = layer.convs().map(|conv| panel_k(conv, tile)).sum();
            tile.packed_bytes(conv.out_channels, k)
        }
        // A matrix for each point, then the biases, which the output transform adds.
        Algorithm::Winograd(size) => {
            let matrix = tile.packed_bytes(conv.out_channels, conv.in_channels);
            size.points() * matrix + values(conv.out_channels)
        }
    }
}
