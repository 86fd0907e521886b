//! The routines of a tier's convolutions on groups of k.

use half::bf16;

use super::tile::{DotTile, Output, conv_tile};
use crate::dtype::Element;
use crate::kernels::conv::tile_shape::TileShape;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2Pairs, Avx512Bf16, Avx512Vnni, AvxVnni, WidenedAvx2};
use crate::simd::{Bf16Pairs, Dot, Emulated, Finish, Plain, Portable, Simd};

/// All instances of the tile routine: `tiles!(D, O, 1 2 ..)[m - 1]` is that of m rows.
macro_rules! tiles {
    ($groups:ty, $out:ty, $($m:literal)*) => {{
        const TILES: &[DotTile<<$groups as Dot>::A, $out>] = &[$(conv_tile::<$groups, $out, $m>),*];
        TILES
    }};
}

/// The routines on activations of `A`. Only a proof that this machine has their instructions makes them, so calling
/// them needs no other.
#[derive(Clone, Copy)]
pub struct DotKernels<A: 'static> {
    /// The instructions, for the kernels' names.
    pub instructions: &'static str,
    nr: usize,
    header: usize,
    /// `tiles[m - 1]` computes tiles of m pixels.
    pub(super) tiles: &'static [DotTile<A, A>],
    /// The same with results in f32.
    pub(super) f32_tiles: &'static [DotTile<A, f32>],
}

impl DotKernels<i16> {
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

impl DotKernels<u8> {
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

/// Pairs of bf16 of one tier.
type PortableBf16 = Bf16Pairs<Emulated<Portable>>;
#[cfg(target_arch = "x86_64")]
type Avx2Bf16 = Bf16Pairs<WidenedAvx2>;
#[cfg(target_arch = "x86_64")]
type Avx512Pairs = Bf16Pairs<Avx512Bf16>;

impl DotKernels<bf16> {
    /// Pairs in plain Rust.
    pub(in crate::kernels) fn emulated(proof: PortableBf16) -> Self {
        let tiles = tiles!(PortableBf16, bf16, 1 2);
        Self::new(proof, "emulated", tiles, tiles!(PortableBf16, f32, 1 2))
    }

    /// Pairs that are widened to f32 in AVX2: both halves of a row and of two registers of weights leave room for four
    /// rows of sums.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx2(proof: Avx2Bf16) -> Self {
        let tiles = tiles!(Avx2Bf16, bf16, 1 2 3 4);
        Self::new(proof, "avx2", tiles, tiles!(Avx2Bf16, f32, 1 2 3 4))
    }

    /// Pairs in AVX512_BF16.
    #[cfg(target_arch = "x86_64")]
    pub(in crate::kernels) fn avx512(proof: Avx512Pairs) -> Self {
        let tiles = tiles!(Avx512Pairs, bf16, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        let f32_tiles = tiles!(Avx512Pairs, f32, 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
        Self::new(proof, "avx512bf16", tiles, f32_tiles)
    }
}

impl<A: Element> DotKernels<A> {
    fn new<D: Dot<A = A>>(
        _proof: D,
        instructions: &'static str,
        tiles: &'static [DotTile<A, A>],
        f32_tiles: &'static [DotTile<A, f32>],
    ) -> Self
    where
        A: Output<D>,
    {
        Self {
            instructions,
            nr: 2 * D::S::LANES,
            header: D::F::HEADER,
            tiles,
            f32_tiles,
        }
    }

    /// The register tile. Its panels hold groups of k.
    pub fn tile(&self) -> TileShape {
        TileShape {
            dtype: A::DTYPE,
            depth: 4 / size_of::<A>(),
            header: self.header,
            mr: self.tiles.len(),
            nr: self.nr,
        }
    }
}
