//! The one place where a tier becomes a set of routines.

use super::conv_tile::{ConvTile, conv_tile};
use super::elementwise::{Elementwise, elementwise};
use super::isa::Isa;
use super::pack::{Pack, ScaleRows, pack, scale_rows};
use super::peak::{Burn, burn};
use super::pool::{AvgPool, MaxPool, avg_pool, max_pool};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd};
use super::winograd::{
    F2, F4, InputTile, OutputTile, TileSize, TransformWeights, input_tile, output_tile,
    transform_weights,
};

/// The kernels of one tier. Having one means that this machine has the tier.
#[derive(Clone, Copy)]
pub struct KernelTable {
    /// The tier.
    pub isa: Isa,
    /// Channels of a packed panel: two registers.
    pub nr: usize,
    /// `conv_tiles[m - 1]` computes tiles of m pixels; the tier's MR of them.
    pub conv_tiles: &'static [ConvTile],
    /// One output pixel of a max pool.
    pub max_pool: MaxPool,
    /// One output pixel of an average pool.
    pub avg_pool: AvgPool,
    /// Batch norm, addition and ReLU of a row.
    pub elementwise: Elementwise,
    /// Weights into panels.
    pub pack: Pack,
    /// Batch norm's factors into weights.
    pub scale_rows: ScaleRows,
    /// The loop whose speed is the tier's peak.
    pub burn: Burn,
    winograd_2: WinogradTransforms,
    winograd_4: WinogradTransforms,
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

macro_rules! table {
    ($isa:expr, $tier:ty, [$($m:literal)*]) => {{
        const TILES: &[ConvTile] = &[$(conv_tile::<$tier, $m>),*];
        const { assert!(TILES.len() == <$tier>::MR) };
        KernelTable {
            isa: $isa,
            nr: 2 * <$tier>::LANES,
            conv_tiles: TILES,
            max_pool: max_pool::<$tier>,
            avg_pool: avg_pool::<$tier>,
            elementwise: elementwise::<$tier>,
            pack: pack::<$tier>,
            scale_rows: scale_rows::<$tier>,
            burn: burn::<$tier>,
            winograd_2: WinogradTransforms {
                weights: transform_weights::<$tier, F2, 2, 4>,
                input: input_tile::<$tier, F2, 2, 4>,
                output: output_tile::<$tier, F2, 2, 4>,
            },
            winograd_4: WinogradTransforms {
                weights: transform_weights::<$tier, F4, 4, 6>,
                input: input_tile::<$tier, F4, 4, 6>,
                output: output_tile::<$tier, F4, 4, 6>,
            },
        }
    }};
}

impl KernelTable {
    /// The kernels of `isa`, or `None` where this machine lacks it.
    pub fn new(isa: Isa) -> Option<Self> {
        if !isa.is_available() {
            return None;
        }
        Some(match isa {
            Isa::Portable => table!(isa, Portable, [1 2 3 4]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => table!(isa, Avx2, [1 2 3 4 5 6]),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => table!(isa, Avx512, [1 2 3 4 5 6 7 8 9 10 11 12 13 14]),
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        })
    }

    /// The most output pixels of a tile.
    pub fn mr(&self) -> usize {
        self.conv_tiles.len()
    }

    /// The transforms for tiles of `size`.
    pub fn winograd(&self, size: TileSize) -> WinogradTransforms {
        match size {
            TileSize::Two => self.winograd_2,
            TileSize::Four => self.winograd_4,
        }
    }

    /// The convolution kernel's name: `f32_conv_<MR>x<NR>_<isa>`.
    pub fn conv_name(&self) -> String {
        format!("f32_conv_{}x{}_{}", self.mr(), self.nr, self.isa)
    }

    /// The tables of every tier that this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Isa::available().filter_map(Self::new)
    }
}
