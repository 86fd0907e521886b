//! The routines of weight gradients, by tier.

use super::outer::{OuterTile, PackRows, outer_tile, pack_rows};
use super::parts::{SumPartsRow, sum_parts};
use super::tiles::tiles;
use super::transposed::{Transpose, transpose};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd};

/// The routines of weight gradients, for one tier. Only a proof that this machine has the tier makes
/// them.
#[derive(Clone, Copy)]
pub struct WeightGradientKernels {
    pub(super) nr: usize,
    /// Pixels of a row that is multiplied: 2 in bf16, which reads copied rows only.
    pub(super) depth: usize,
    pub(super) tiles: &'static [OuterTile],
    pub(super) pack: PackRows,
    /// The sum of parts.
    pub sum: SumPartsRow,
    /// The transposition of weights, for the gradient by the input.
    pub transpose: Transpose,
}

impl WeightGradientKernels {
    /// The kernels of the portable tier.
    pub(in crate::kernels) fn portable(proof: Portable) -> Self {
        Self::new(proof, tiles!(outer_tile::<Portable>: OuterTile))
    }

    /// The kernels of AVX2.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx2(proof: Avx2) -> Self {
        Self::new(proof, tiles!(outer_tile::<Avx2>: OuterTile))
    }

    /// The kernels of AVX-512.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx512(proof: Avx512) -> Self {
        Self::new(proof, tiles!(outer_tile::<Avx512>: OuterTile))
    }

    fn new<S: Simd>(_proof: S, tiles: &'static [OuterTile]) -> Self {
        assert_eq!(tiles.len(), S::MR);
        Self {
            nr: 2 * S::LANES,
            depth: 1,
            tiles,
            pack: pack_rows::<S>,
            sum: sum_parts::<S>,
            transpose: transpose::<S>,
        }
    }

    /// The same with products of pairs of pixels in bf16.
    pub(in crate::kernels::conv) fn in_pairs(
        self,
        tiles: &'static [OuterTile],
        pack: PackRows,
    ) -> Self {
        Self {
            depth: 2,
            tiles,
            pack,
            ..self
        }
    }
}
