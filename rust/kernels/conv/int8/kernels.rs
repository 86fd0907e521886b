//! The int8 convolution kernels of a tier.

use super::pack::{HEADER, PanelValues, pack};
use super::tile::{IntTile, Output, conv_tile};
use crate::kernels::conv::tile_shape::TileShape;
use crate::simd::{Activation, Dot, Plain, Simd};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2Pairs, Avx512Vnni, AvxVnni};

/// All instances of the tile routine: `tiles!(D, O, 1 2 ..)[m - 1]` is that of m rows.
macro_rules! tiles {
    ($groups:ty, $out:ty, $($m:literal)*) => {{
        const TILES: &[IntTile<<$groups as Dot>::A, $out>] = &[$(conv_tile::<$groups, $out, $m>),*];
        TILES
    }};
}

/// The packing of a panel: see [`IntConvKernels::pack`].
type Pack = fn(&[(&[i8], usize)], &PanelValues, usize, &mut [i32]);

/// The routines of convolutions on activations of `A`. Only a proof that this machine has their instructions makes
/// them, so calling them needs no other.
#[derive(Clone, Copy)]
pub struct IntConvKernels<A: 'static> {
    /// The instructions, for the kernels' names.
    pub instructions: &'static str,
    nr: usize,
    /// `tiles[m - 1]` computes tiles of m pixels.
    pub(super) tiles: &'static [IntTile<A, A>],
    /// The same with results in f32.
    pub(super) f32_tiles: &'static [IntTile<A, f32>],
    pack: Pack,
}

impl IntConvKernels<i16> {
    /// Pairs in plain Rust.
    pub(in crate::kernels) fn portable(proof: Plain<i16>) -> Self {
        let tiles = tiles!(Plain<i16>, i16, 1 2 3 4);
        Self::new(proof, "portable", tiles, tiles!(Plain<i16>, f32, 1 2 3 4))
    }

    /// Pairs in AVX2.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx2(proof: Avx2Pairs) -> Self {
        let tiles = tiles!(Avx2Pairs, i16, 1 2 3 4 5 6);
        Self::new(proof, "avx2", tiles, tiles!(Avx2Pairs, f32, 1 2 3 4 5 6))
    }
}

impl IntConvKernels<u8> {
    /// Fours in plain Rust, for tests: low tiles, for there is no speed to win.
    pub(in crate::kernels) fn emulated(proof: Plain<i8>) -> Self {
        let tiles = tiles!(Plain<i8>, u8, 1 2);
        Self::new(proof, "emulated", tiles, tiles!(Plain<i8>, f32, 1 2))
    }

    /// Fours in AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx_vnni(proof: AvxVnni) -> Self {
        let tiles = tiles!(AvxVnni, u8, 1 2 3 4 5 6);
        Self::new(proof, "avxvnni", tiles, tiles!(AvxVnni, f32, 1 2 3 4 5 6))
    }

    /// Fours in AVX-512 VNNI.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx512_vnni(proof: Avx512Vnni) -> Self {
        let tiles = tiles!(Avx512Vnni, u8, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        let f32_tiles = tiles!(Avx512Vnni, f32, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        Self::new(proof, "avx512vnni", tiles, f32_tiles)
    }
}

impl<A: Activation> IntConvKernels<A> {
    fn new<D: Dot<A = A>>(
        _proof: D,
        instructions: &'static str,
        tiles: &'static [IntTile<A, A>],
        f32_tiles: &'static [IntTile<A, f32>],
    ) -> Self
    where
        A: Output<D>,
    {
        Self {
            instructions,
            nr: 2 * D::S::LANES,
            tiles,
            f32_tiles,
            pack: pack::<D::W>,
        }
    }

    /// The register tile. Its panels hold groups of k.
    pub fn tile(&self) -> TileShape {
        TileShape {
            dtype: A::DTYPE,
            depth: 4 / size_of::<A>(),
            header: HEADER,
            mr: self.tiles.len(),
            nr: self.nr,
        }
    }

    /// Packs the panel of up to NR output channels.
    ///
    /// - `weights`: the matrices `[channels, k_i]`, row-major, that are summed, one for each segment of the
    ///   convolution; k_i is whole groups.
    /// - `panel`: the panel's places, all written; surplus channels are zero.
    ///
    /// # Panics
    /// If a length does not fit the others.
    pub fn pack(&self, weights: &[(&[i8], usize)], values: &PanelValues, panel: &mut [i32]) {
        (self.pack)(weights, values, self.nr, panel);
    }
}
