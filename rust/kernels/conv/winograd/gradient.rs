//! The gradient of a 3x3 convolution by its weights, with Winograd's transforms.
//!
//! The forward pass is `y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A` for each tile. It is linear in g, so the gradient
//! follows by going through the same steps backwards:
//!
//! ```text
//! dy ─ A dy Aᵀ ─► dP [points, tiles, out]
//!                 dU = Vᵀ · dP [points, in, out]        V = Bᵀ d B, as in the forward pass
//!                      dU ─ Gᵀ dU G ─► dg
//! ```
//!
//! It needs as few multiplications as the forward pass: 36 instead of 144 for a tile of 4 x 4.

use super::block::{Place, TileBlock};
use super::scheme::Scheme;
use super::size::TileSize;
use crate::kernels::conv::f32::panel_len;
use crate::kernels::view::View;
use crate::simd::Simd;

/// Rows of an item of [`WeightsGradient`].
const ROWS: usize = 16;

/// The arguments of a tile's transform: `p[point] = (A dy Aᵀ)[point]` for each channel.
///
/// Channels are worked on in whole vectors: pixels of the gradient and of `p` have room for the channels
/// rounded up to 16.
pub struct GradientTileArgs {
    /// The tile's first pixel.
    pub gradient: *const f32,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from a pixel to the next.
    pub pixel_stride: usize,
    /// Rows of the tile that are inside the image, 1 to M; the others count as zeros.
    pub rows: usize,
    /// Columns of the tile that are inside the image, 1 to M.
    pub columns: usize,
    /// The place of the tile's values at point 0.
    pub p: *mut f32,
    /// Elements from a point to the next.
    pub point_stride: usize,
    /// Channels.
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; the channels of the pixels inside the image, rounded up to 16, are valid for
/// reads, and those of `p` at each point for writes.
pub type GradientTile = unsafe fn(&GradientTileArgs);

/// The transform of tier `S` and scheme `T`.
///
/// # Safety
/// See [`GradientTile`].
pub(super) unsafe fn gradient_tile<S: Simd, T: Scheme<M, A>, const M: usize, const A: usize>(
    args: &GradientTileArgs,
) {
    // SAFETY: the caller guarantees the tier and the pointers.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                if args.rows == M && args.columns == M {
                    transform::<S, T, M, A>(s, args, M, M);
                } else {
                    transform::<S, T, M, A>(s, args, args.rows, args.columns);
                }
            },
        );
    }
}

#[inline(always)]
#[allow(clippy::needless_range_loop)] // As in tile.rs.
unsafe fn transform<S: Simd, T: Scheme<M, A>, const M: usize, const A: usize>(
    s: S,
    args: &GradientTileArgs,
    rows: usize,
    columns: usize,
) {
    for c in (0..args.channels).step_by(S::LANES) {
        let mut half = [[s.splat(0.0); M]; A];
        for x in 0..M {
            let mut column = [s.splat(0.0); M];
            for y in 0..M {
                if y < rows && x < columns {
                    let at = y * args.row_pitch + x * args.pixel_stride + c;
                    // SAFETY: a pixel inside the image.
                    column[y] = unsafe { s.load(args.gradient.add(at)) };
                }
            }
            let column = T::output_gradient(s, column);
            for y in 0..A {
                half[y][x] = column[y];
            }
        }
        for y in 0..A {
            let row = T::output_gradient(s, half[y]);
            for x in 0..A {
                let at = (y * A + x) * args.point_stride + c;
                // SAFETY: a point of `p`.
                unsafe { s.store(args.p.add(at), row[x]) };
            }
        }
    }
}

/// The transform of an output's gradient, for a block of tiles.
#[derive(Clone, Debug)]
pub struct TransformGradient {
    /// The tiles.
    pub block: TileBlock,
    /// dy.
    pub gradient: View,
    /// dP's place: `[points, 1, tiles of the block, out_channels]`.
    pub p: View,
}

impl TransformGradient {
    /// Items of work.
    pub fn items(&self) -> usize {
        self.block.items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `transform`, which is that of the block's tiles; the views lie inside
    /// `arena` and do not overlap; all threads are past the steps before, and each item is done by one
    /// thread.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, transform: GradientTile) {
        let view = &self.gradient;
        let side = self.block.size.outputs();
        for (i, Place { n, y, x }) in self.block.item(item, view) {
            // SAFETY: the views lie inside the arena, their pixels have room for whole vectors; rows and
            // columns end with the image.
            unsafe {
                transform(&GradientTileArgs {
                    gradient: view.pixel_ptr::<f32>(arena, n, y, x),
                    row_pitch: view.row_pitch,
                    pixel_stride: view.pixel_stride,
                    rows: side.min(view.height - y),
                    columns: side.min(view.width - x),
                    p: self.p.pixel_ptr(arena, 0, 0, i),
                    point_stride: self.p.image_stride,
                    channels: view.channels,
                });
            }
        }
    }
}

/// The arguments of a row: `g[tap, i] (+)= (Gᵀ u[i] G)[tap]`.
pub struct GradientRowArgs {
    /// The row's values at point 0.
    pub u: *const f32,
    /// Elements from a point to the next.
    pub point_stride: usize,
    /// The row's place at tap 0.
    pub g: *mut f32,
    /// Elements from a tap to the next.
    pub tap_stride: usize,
    /// Values of a row, a multiple of the vectors'.
    pub len: usize,
    /// Adds to the values of `g`.
    pub accumulate: bool,
}

/// # Safety
/// The machine has the tier; `len` values are valid for reads at each point, and for reads and writes at each
/// tap.
pub type GradientRow = unsafe fn(&GradientRowArgs);

/// The transform of tier `S` and scheme `T`.
///
/// # Safety
/// See [`GradientRow`].
pub(super) unsafe fn gradient_row<S: Simd, T: Scheme<M, A>, const M: usize, const A: usize>(
    args: &GradientRowArgs,
) {
    // SAFETY: the caller guarantees the tier and the values.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for i in (0..args.len).step_by(S::LANES) {
                    let mut half = [[s.splat(0.0); A]; 3];
                    for (p, g) in T::G.iter().enumerate() {
                        for q in 0..A {
                            let u = s.load(args.u.add((p * A + q) * args.point_stride + i));
                            for (half, &g) in half.iter_mut().zip(g) {
                                half[q] = s.mul_add(s.splat(g as f32), u, half[q]);
                            }
                        }
                    }
                    for (y, half) in half.iter().enumerate() {
                        for x in 0..3 {
                            let mut sum = s.splat(0.0);
                            for (q, g) in T::G.iter().enumerate() {
                                sum = s.mul_add(s.splat(g[x] as f32), half[q], sum);
                            }
                            let g = args.g.add((3 * y + x) * args.tap_stride + i);
                            if args.accumulate {
                                sum = s.add(s.load(g), sum);
                            }
                            s.store(g, sum);
                        }
                    }
                }
            },
        );
    }
}

/// The last step of a weight gradient: from the matrices of all points to the packed gradient.
#[derive(Clone, Debug)]
pub struct WeightsGradient {
    /// The size of the tiles.
    pub size: TileSize,
    /// The place of the matrices in the arena, in the form of packed weights, one point's after the other.
    pub u_bytes: usize,
    /// The gradient's first element.
    pub first: usize,
    /// Channels of the convolution's input.
    pub in_channels: usize,
    /// Channels of its output.
    pub out_channels: usize,
    /// Channels of a panel.
    pub nr: usize,
    /// Adds to the gradients that are there.
    pub accumulate: bool,
}

impl WeightsGradient {
    fn blocks(&self) -> usize {
        self.in_channels.div_ceil(ROWS)
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.out_channels.div_ceil(self.nr) * self.blocks()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `transform`, which is that of the size; the matrices lie inside `arena`, the
    /// gradient inside `gradients`; all threads are past the steps before, and each item is done by one
    /// thread.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        gradients: *mut f32,
        transform: GradientRow,
    ) {
        let (panel, block) = (item / self.blocks(), item % self.blocks());
        let nr = self.nr;
        let matrix = panel_len(self.in_channels, nr);
        let u = arena.wrapping_add(self.u_bytes).cast::<f32>();
        let u = u.wrapping_add(panel * matrix + nr);
        let g = self.first + panel * panel_len(9 * self.in_channels, nr) + nr;
        let g = gradients.wrapping_add(g);
        for row in block * ROWS..((block + 1) * ROWS).min(self.in_channels) {
            // SAFETY: the row's values at each point, and its places at each tap, which no other item
            // touches.
            unsafe {
                transform(&GradientRowArgs {
                    u: u.add(row * nr),
                    point_stride: self.out_channels.div_ceil(nr) * matrix,
                    g: g.add(row * nr),
                    tap_stride: self.in_channels * nr,
                    len: nr,
                    accumulate: self.accumulate,
                });
            }
        }
    }
}
