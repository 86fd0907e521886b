//! The transforms of a tier.

use super::scheme::{F2, F4};
use super::size::TileSize;
use super::tile::{InputTile, OutputTile, input_tile, output_tile};
use super::weights::{TransformWeights, transform_weights};
use crate::simd::Simd;

/// The transforms of a Winograd layer, for one tier. Having them means that this machine has the
/// tier.
#[derive(Clone, Copy)]
pub struct WinogradKernels {
    two: WinogradTransforms,
    four: WinogradTransforms,
}

/// The transforms of tiles of one size.
#[derive(Clone, Copy)]
pub struct WinogradTransforms {
    /// `U = G g Gᵀ`.
    pub weights: TransformWeights,
    /// `V = Bᵀ d B`.
    pub input: InputTile,
    /// `out = relu(Aᵀ p A + bias + residual)`.
    pub output: OutputTile,
}

impl WinogradKernels {
    /// The kernels of tier `S`, which the machine must have.
    pub(in crate::kernels) fn new<S: Simd>() -> Self {
        Self {
            two: WinogradTransforms {
                weights: transform_weights::<S, F2, 2, 4>,
                input: input_tile::<S, F2, 2, 4>,
                output: output_tile::<S, F2, 2, 4>,
            },
            four: WinogradTransforms {
                weights: transform_weights::<S, F4, 4, 6>,
                input: input_tile::<S, F4, 4, 6>,
                output: output_tile::<S, F4, 4, 6>,
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
