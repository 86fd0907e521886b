//! The f32 convolution kernels of a tier.

use super::pack::{Pack, ScaleRows, pack, scale_rows};
use super::tile::{ConvTile, conv_tile};
use super::tiles::tiles;
use crate::dtype::Dtype;
use crate::kernels::conv::tile_shape::TileShape;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd, flush_denormals};

/// The routines of a convolution layer, for one tier. Only a proof that this machine has the tier
/// makes them, so calling them needs no other.
#[derive(Clone, Copy)]
pub struct ConvKernels {
    nr: usize,
    /// `tiles[m - 1]` computes tiles of m pixels, up to the tier's MR.
    pub(super) tiles: &'static [ConvTile],
    pack: Pack,
    scale_rows: ScaleRows,
}

impl ConvKernels {
    /// The kernels of the portable tier.
    pub(in crate::kernels) fn portable(proof: Portable) -> Self {
        Self::new(proof, tiles!(conv_tile::<Portable>: ConvTile))
    }

    /// The kernels of AVX2.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx2(proof: Avx2) -> Self {
        Self::new(proof, tiles!(conv_tile::<Avx2>: ConvTile))
    }

    /// The kernels of AVX-512.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx512(proof: Avx512) -> Self {
        Self::new(proof, tiles!(conv_tile::<Avx512>: ConvTile))
    }

    fn new<S: Simd>(_proof: S, tiles: &'static [ConvTile]) -> Self {
        assert_eq!(tiles.len(), S::MR);
        Self {
            nr: 2 * S::LANES,
            tiles,
            pack: pack::<S>,
            scale_rows: scale_rows::<S>,
        }
    }

    /// Channels of a packed panel: two registers.
    pub fn nr(&self) -> usize {
        self.nr
    }

    /// The most output pixels of a tile.
    pub fn mr(&self) -> usize {
        self.tiles.len()
    }

    /// Packs `weights` and `bias` into panels of `nr` output channels.
    ///
    /// - `weights`: the matrices `[out_channels, k_i]`, row-major, that are summed, one for each
    ///   segment of the convolution; a panel has their k one after the other.
    /// - `bias`: `[out_channels]`.
    /// - `packed`: `packed_len(out_channels, Σ k_i, nr)` elements, all written; surplus
    ///   channels of the last panel are zero.
    ///
    /// # Panics
    /// If a length does not fit the others.
    pub fn pack(&self, weights: &[(&[f32], usize)], bias: &[f32], nr: usize, packed: &mut [f32]) {
        // SAFETY: having `self` proves the tier.
        unsafe { (self.pack)(weights, bias, nr, packed) };
    }

    /// Multiplies each row of `weights` (`[channels, k]`) with its channel's scale, in f64, rounded
    /// once. Denormals count as zero, as operands and as results: they mean nothing as weights, and
    /// slow the arithmetic down.
    pub fn scale_rows(&self, weights: &mut [f32], scale: &[f64]) {
        // SAFETY: having `self` proves the tier.
        flush_denormals(|| unsafe { (self.scale_rows)(weights, scale) });
    }

    /// The register tile.
    pub fn tile(&self) -> TileShape {
        TileShape {
            dtype: Dtype::F32,
            depth: 1,
            header: 1,
            mr: self.mr(),
            nr: self.nr,
        }
    }
}
