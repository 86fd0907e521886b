//! The transforms of a tier.

use super::gradient::{GradientRow, GradientTile, gradient_row, gradient_tile};
use super::packed::{TransformRow, transform_row};
use super::scheme::{F2, F4};
use super::size::TileSize;
use super::tile::{InputTile, OutputTile, input_tile, output_tile};
use super::weights::{TransformWeights, transform_weights};
use crate::simd::{Simd, flush_denormals};

/// The transforms of a Winograd layer, for one tier. Only a proof that this machine has the tier
/// makes them, so calling them needs no other.
#[derive(Clone, Copy)]
pub struct WinogradKernels {
    two: WinogradTransforms,
    four: WinogradTransforms,
}

/// The transforms of tiles of one size.
#[derive(Clone, Copy)]
pub struct WinogradTransforms {
    weights: TransformWeights,
    /// The transform of packed weights, a row at a time.
    pub packed: TransformRow,
    /// `V = Bᵀ d B`.
    pub input: InputTile,
    /// `out = relu(Aᵀ p A + bias + residual)`.
    pub output: OutputTile,
    /// `dP = A dy Aᵀ`.
    pub gradient: GradientTile,
    /// `dg = Gᵀ dU G`, a row at a time.
    pub gradient_row: GradientRow,
}

impl WinogradKernels {
    /// The kernels of tier `S`.
    pub(in crate::kernels) fn new<S: Simd>(_proof: S) -> Self {
        Self {
            two: WinogradTransforms {
                weights: transform_weights::<S, F2, 2, 4>,
                packed: transform_row::<S, F2, 2, 4>,
                input: input_tile::<S, F2, 2, 4>,
                output: output_tile::<S, F2, 2, 4>,
                gradient: gradient_tile::<S, F2, 2, 4>,
                gradient_row: gradient_row::<S, F2, 2, 4>,
            },
            four: WinogradTransforms {
                weights: transform_weights::<S, F4, 4, 6>,
                packed: transform_row::<S, F4, 4, 6>,
                input: input_tile::<S, F4, 4, 6>,
                output: output_tile::<S, F4, 4, 6>,
                gradient: gradient_tile::<S, F4, 4, 6>,
                gradient_row: gradient_row::<S, F4, 4, 6>,
            },
        }
    }

    /// The transforms for tiles of `size`.
    pub fn of_size(&self, size: TileSize) -> &WinogradTransforms {
        match size {
            TileSize::Two => &self.two,
            TileSize::Four => &self.four,
        }
    }
}

impl WinogradTransforms {
    /// `U = G g Gᵀ` for each pair of channels, in f64, rounded once; denormals count as zero.
    ///
    /// - `ohwi`: windows `[out_channels, 3, 3, in_channels]`.
    /// - `u`: overwritten with the matrices `[A · A, out_channels, in_channels]`, point (row, column)
    ///   at `row · A + column`; its memory is reused.
    pub fn transform_weights(&self, ohwi: &[f32], in_channels: usize, u: &mut Vec<f32>) {
        // SAFETY: having `self` proves the tier.
        flush_denormals(|| unsafe { (self.weights)(ohwi, in_channels, u) });
    }
}
