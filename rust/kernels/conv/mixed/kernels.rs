//! The bf16 convolution kernels of a tier.

use super::outer::{outer_tile, pack_pairs};
use super::rows::{RoundRows, round_rows};
use super::tile::{Bf16Tile, conv_tile};
use super::transposed::{TransposePairs, transpose_pairs};
use super::weights::{RoundRow, round_row};
use crate::dtype::Dtype;
use crate::kernels::conv::f32::{OuterTile, WeightGradientKernels, tiles};
use crate::kernels::conv::tile_shape::TileShape;
#[cfg(target_arch = "x86_64")]
use crate::simd::Avx512Bf16;
use crate::simd::{Bf16, Emulated, Simd};

/// The routines of convolutions in bf16. Only a proof that this machine has their instructions makes them, so calling
/// them needs no other.
#[derive(Clone, Copy)]
pub struct MixedKernels {
    nr: usize,
    /// `tiles[m - 1]` computes tiles of m pixels.
    pub(super) tiles: &'static [Bf16Tile],
    pub(super) rows: RoundRows,
    /// The bf16 form of rows of weights.
    pub round: RoundRow,
    /// The same with inputs and outputs exchanged.
    pub transpose: TransposePairs,
    /// Gradients by the weights.
    pub weight_gradient: WeightGradientKernels,
}

/// The tiles of emulated pairs: low ones, for there is no speed to win.
struct EmulatedTiles<S>(S);

impl<S: Simd> EmulatedTiles<S> {
    const CONV: &'static [Bf16Tile] = &[conv_tile::<Emulated<S>, 1>, conv_tile::<Emulated<S>, 2>];
    const OUTER: &'static [OuterTile] =
        &[outer_tile::<Emulated<S>, 1>, outer_tile::<Emulated<S>, 2>];
}

impl MixedKernels {
    /// The kernels of AVX512_BF16; `f32` are those of AVX-512.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx512(proof: Avx512Bf16, f32: WeightGradientKernels) -> Self {
        let outer = tiles!(outer_tile::<Avx512Bf16>: OuterTile);
        Self::new(proof, tiles!(conv_tile::<Avx512Bf16>: Bf16Tile), outer, f32)
    }

    /// Emulated kernels beside those of a tier.
    pub(in crate::kernels) fn emulated<S: Simd>(proof: S, f32: WeightGradientKernels) -> Self {
        let proof = Emulated::new(proof);
        Self::new(
            proof,
            EmulatedTiles::<S>::CONV,
            EmulatedTiles::<S>::OUTER,
            f32,
        )
    }

    fn new<B: Bf16>(
        _proof: B,
        tiles: &'static [Bf16Tile],
        outer: &'static [OuterTile],
        f32: WeightGradientKernels,
    ) -> Self {
        Self {
            nr: 2 * B::S::LANES,
            tiles,
            rows: round_rows::<B>,
            round: round_row::<B>,
            transpose: transpose_pairs::<B>,
            weight_gradient: f32.in_pairs(outer, pack_pairs::<B>),
        }
    }

    /// The register tile. Its panels hold pairs of k.
    pub fn tile(&self) -> TileShape {
        TileShape {
            dtype: Dtype::F32,
            depth: 2,
            header: 1,
            mr: self.tiles.len(),
            nr: self.nr,
        }
    }
}
