//! The convolution kernels of a tier.

use super::grid::TileShape;
use super::pack::{Pack, ScaleRows, pack, scale_rows};
use super::tile::{ConvTile, conv_tile};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Portable, Simd};

/// The routines of a convolution layer, for one tier. Having them means that this machine has the
/// tier.
#[derive(Clone, Copy)]
pub struct ConvKernels {
    /// Channels of a packed panel: two registers.
    pub nr: usize,
    /// `tiles[m - 1]` computes tiles of m pixels, up to the tier's MR.
    pub tiles: &'static [ConvTile],
    /// Packs weights into panels.
    pub pack: Pack,
    /// Multiplies weights by batch norm's factors.
    pub scale_rows: ScaleRows,
}

/// The tile routines of a tier, one for each number of rows.
macro_rules! tiles {
    ($tier:ty: $($m:literal)*) => {{
        const TILES: &[ConvTile] = &[$(conv_tile::<$tier, $m>),*];
        const { assert!(TILES.len() == <$tier>::MR) };
        TILES
    }};
}

impl ConvKernels {
    /// The kernels of the portable tier.
    pub(in crate::kernels) fn portable() -> Self {
        Self::new::<Portable>(tiles!(Portable: 1 2 3 4))
    }

    /// The kernels of AVX2, which the machine must have.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx2() -> Self {
        Self::new::<Avx2>(tiles!(Avx2: 1 2 3 4 5 6))
    }

    /// The kernels of AVX-512, which the machine must have.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx512() -> Self {
        Self::new::<Avx512>(tiles!(Avx512: 1 2 3 4 5 6 7 8 9 10 11 12 13 14))
    }

    fn new<S: Simd>(tiles: &'static [ConvTile]) -> Self {
        Self {
            nr: 2 * S::LANES,
            tiles,
            pack: pack::<S>,
            scale_rows: scale_rows::<S>,
        }
    }

    /// The most output pixels of a tile.
    pub fn mr(&self) -> usize {
        self.tiles.len()
    }

    /// The register tile.
    pub fn tile(&self) -> TileShape {
        TileShape {
            mr: self.mr(),
            nr: self.nr,
        }
    }
}
