//! Winograd's minimal filtering for 3x3 convolutions with stride 1.
//!
//! A tile of m x m outputs needs m²·9 multiplications directly and (m + 2)² here, the transforms
//! aside: 144 and 36 for F(4x4), 36 and 16 for F(2x2). For a tile `d` of (m + 2) x (m + 2) input
//! values and a window `g`
//!
//! ```text
//! y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        ⊙: element by element
//! ```
//!
//! and with many channels the products at each of the (m + 2)² points, summed over the input
//! channels, are a matrix product of their own: `[tiles, in] · [in, out]`. So a layer runs as
//! three steps, each over a block of tiles that stays in cache:
//!
//! ```text
//! input ─ Bᵀ d B ─► V [points, tiles, in]
//!                   V · U ─► P [points, tiles, out]      U = G g Gᵀ, at load, in f64
//!                            P ─ Aᵀ p A ─► + bias, ReLU ─► output
//! ```
//!
//! Sources: Winograd, "Arithmetic Complexity of Computations", 1980; Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2015. The matrices follow from interpolation
//! points (Toom and Cook; Blahut, "Fast Algorithms for Signal Processing", 2010): `F4` has
//! 0, ±√½, ±√2, ∞ in place of the usual 0, ±1, ±2, ∞, which halves the rounding error (Barabasz
//! et al., "Error Analysis and Improving the Accuracy of Winograd Convolution", 2020).

mod block;
mod gradient;
mod kernels;
mod layers;
mod packed;
mod scheme;
mod size;
mod tile;
mod weights;

pub use block::TileBlock;
pub use gradient::{
    GradientRow, GradientRowArgs, GradientTile, GradientTileArgs, TransformGradient,
    WeightsGradient,
};
pub use kernels::{WinogradKernels, WinogradTransforms};
pub use layers::{PointProducts, TransformInput, TransformOutput};
pub use packed::{PackedRoutines, RowArgs, TransformPacked, TransformRow};
pub use size::TileSize;
pub use tile::{InputTile, InputTileArgs, OutputTile, OutputTileArgs};

#[cfg(test)]
mod gradient_tests;
#[cfg(test)]
mod tests;
