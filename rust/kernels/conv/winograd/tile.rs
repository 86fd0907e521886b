//! One tile's transforms, all channels, LANES at a time.

// Loops over indices instead of iterators or closures: if the compiler does not inline those, they are
// compiled without the tier's instructions.
#![allow(clippy::needless_range_loop)]

use super::scheme::Scheme;
use crate::simd::Simd;

/// The arguments of a tile's input transform: `v[point] = (Bᵀ d B)[point]` for each channel.
///
/// Channels are worked on in whole vectors: pixels of `input` and of `v` have room for the
/// channels rounded up to 16.
pub struct InputTileArgs {
    /// The tile's first pixel.
    pub input: *const f32,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from a pixel to the next.
    pub pixel_stride: usize,
    /// Rows of the tile inside the view, 0 to A; the others count as zeros.
    pub rows: usize,
    /// Columns of the tile inside the view, 0 to A; the others count as zeros.
    pub columns: usize,
    /// The place of the tile's values at point 0.
    pub v: *mut f32,
    /// Elements from a point to the next.
    pub point_stride: usize,
    /// Channels.
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; the channels of the pixels inside the view, rounded up to 16, are valid for
/// reads, and those of `v` at each point for writes.
pub type InputTile = unsafe fn(&InputTileArgs);

/// The input transform of tier `S` and scheme `T`.
///
/// # Safety
/// See [`InputTile`].
pub(super) unsafe fn input_tile<S: Simd, T: Scheme<M, A>, const M: usize, const A: usize>(
    args: &InputTileArgs,
) {
    // SAFETY: the caller guarantees the tier and the pointers.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                // Inside the image the compiler sees constants, and emits no checks.
                if args.rows == A && args.columns == A {
                    transform_input::<S, T, M, A>(s, args, A, A);
                } else {
                    transform_input::<S, T, M, A>(s, args, args.rows, args.columns);
                }
            },
        );
    }
}

#[inline(always)]
unsafe fn transform_input<S: Simd, T: Scheme<M, A>, const M: usize, const A: usize>(
    s: S,
    args: &InputTileArgs,
    rows: usize,
    columns: usize,
) {
    for c in (0..args.channels).step_by(S::LANES) {
        let mut half = [[s.splat(0.0); A]; A];
        for x in 0..A {
            let mut column = [s.splat(0.0); A];
            for y in 0..A {
                if y < rows && x < columns {
                    let at = y * args.row_pitch + x * args.pixel_stride + c;
                    // SAFETY: this pixel lies inside the view.
                    column[y] = unsafe { s.load(args.input.add(at)) };
                }
            }
            let column = T::input(s, column);
            for y in 0..A {
                half[y][x] = column[y];
            }
        }
        for y in 0..A {
            let row = T::input(s, half[y]);
            for x in 0..A {
                let at = (y * A + x) * args.point_stride + c;
                // SAFETY: a point of `v`.
                unsafe { s.store(args.v.add(at), row[x]) };
            }
        }
    }
}

/// The arguments of a tile's output transform: `out = relu((Aᵀ p A) + bias + residual)` for each
/// channel, the residual being the values of `out` before.
///
/// Channels are worked on in whole vectors: pixels of `p` and of `out`, and `bias`, have room for
/// the channels rounded up to 16.
pub struct OutputTileArgs {
    /// The tile's products at point 0.
    pub p: *const f32,
    /// Elements from a point to the next.
    pub point_stride: usize,
    /// Added to each channel.
    pub bias: *const f32,
    /// The tile's first pixel.
    pub out: *mut f32,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from a pixel to the next.
    pub pixel_stride: usize,
    /// Rows of the tile that are inside the image, 1 to M.
    pub rows: usize,
    /// Columns of the tile that are inside the image, 1 to M.
    pub columns: usize,
    /// Channels.
    pub channels: usize,
    /// Adds the values of `out`.
    pub residual: bool,
    /// Makes negative results zero.
    pub relu: bool,
}

/// # Safety
/// The machine has the tier; the channels rounded up to 16 of `p` at each point and of `bias` are valid for
/// reads, and those of the pixels inside the image for writes, and for reads if there is a
/// residual.
pub type OutputTile = unsafe fn(&OutputTileArgs);

/// The output transform of tier `S` and scheme `T`.
///
/// # Safety
/// See [`OutputTile`].
pub(super) unsafe fn output_tile<S: Simd, T: Scheme<M, A>, const M: usize, const A: usize>(
    args: &OutputTileArgs,
) {
    // SAFETY: the caller guarantees the tier and the pointers.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                if args.rows == M && args.columns == M {
                    transform_output::<S, T, M, A>(s, args, M, M);
                } else {
                    transform_output::<S, T, M, A>(s, args, args.rows, args.columns);
                }
            },
        );
    }
}

#[inline(always)]
unsafe fn transform_output<S: Simd, T: Scheme<M, A>, const M: usize, const A: usize>(
    s: S,
    args: &OutputTileArgs,
    rows: usize,
    columns: usize,
) {
    for c in (0..args.channels).step_by(S::LANES) {
        // SAFETY: `bias` has room for whole vectors.
        let bias = unsafe { s.load(args.bias.add(c)) };
        let mut half = [[s.splat(0.0); A]; M];
        for x in 0..A {
            let mut column = [s.splat(0.0); A];
            for y in 0..A {
                let at = (y * A + x) * args.point_stride + c;
                // SAFETY: a point of `p`.
                column[y] = unsafe { s.load(args.p.add(at)) };
            }
            let column = T::output(s, column);
            for y in 0..M {
                half[y][x] = column[y];
            }
        }
        for y in 0..M {
            let row = T::output(s, half[y]);
            for x in 0..M {
                if y < rows && x < columns {
                    let mut value = s.add(row[x], bias);
                    let at = y * args.row_pitch + x * args.pixel_stride + c;
                    if args.residual {
                        // SAFETY: a pixel inside the image.
                        value = s.add(value, unsafe { s.load(args.out.add(at)) });
                    }
                    if args.relu {
                        // This order of operands keeps a NaN.
                        value = s.max(s.splat(0.0), value);
                    }
                    // SAFETY: a pixel inside the image.
                    unsafe { s.store(args.out.add(at), value) };
                }
            }
        }
    }
}
