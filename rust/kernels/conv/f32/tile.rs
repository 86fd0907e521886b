//! The convolution microkernel: a tile of MR output pixels by NR output channels in registers.
//!
//! A convolution is a sum over taps (the positions of the kernel window) of small matrix products.
//! Because the input lies in NHWC with its zero border around it, the input channels of tap
//! (ky, kx) for output pixel `m` start at `row[m] + tap_offset(ky, kx)`, whatever the kernel size
//! and stride: this one routine computes 1x1, 3x3 and 7x7 convolutions and the fully connected
//! layer without ever copying the input into a matrix (indirect convolution, Dukhan 2019,
//! "The Indirect Convolution Algorithm", here with offsets in place of the pointer table).
//!
//! ```text
//!                  NR = 2 registers of weights (one k)
//!                 ┌────────────┬────────────┐
//!   row[0] + k  → │ acc[0][0]  │ acc[0][1]  │   acc[i][j] += splat(row[i][k]) · w[k][j]
//!   row[1] + k  → │ acc[1][0]  │ acc[1][1]  │
//!        ⋮        │     ⋮      │     ⋮      │   k runs over the channels of a tap, the taps of a
//!   row[MR-1]   → │            │            │   segment, the segments: always in this order, so
//!                 └────────────┴────────────┘   a result does not depend on the tile it is in.
//! ```

use crate::kernels::conv::tile::Segment;
use crate::kernels::view::line_of;
use crate::simd::Simd;

/// The values of a cache line.
const LINE: usize = line_of::<f32>();

/// The arguments of a tile: `out = relu(bias + Σ segments + residual)`.
pub struct TileArgs<'a> {
    /// The inputs; two if a block's shortcut convolution is summed into its last convolution.
    pub segments: &'a [Segment<'a, f32>],
    /// Packed weights of this panel: NR biases, then for each k the NR weights.
    pub panel: *const f32,
    /// The place of the sums.
    pub finish: Finish<'a>,
    /// Weights that are needed soon, to be fetched into the second-level cache meanwhile.
    pub ahead: *const f32,
    /// Cache lines of `ahead` to fetch for every four k.
    pub ahead_lines: usize,
}

/// The end of a tile: what becomes of its sums.
pub struct Finish<'a> {
    /// For each of the tile's pixels, the output's channel 0.
    pub out: &'a [*mut f32],
    /// For each of the tile's pixels, the residual's channel 0; it may be `out` itself.
    pub residual: Option<&'a [*mut f32]>,
    /// The panel's first channel.
    pub channel: usize,
    /// The panel's channels, 1 to NR: fewer than NR in the last panel only.
    pub channels: usize,
    /// Makes negative results zero.
    pub relu: bool,
}

/// A tile routine for one MR of one tier; [`ConvKernels`](super::ConvKernels) holds them.
///
/// # Safety
/// The tier's instructions are there. Each slice of rows has at least MR pointers. From each input
/// row, all taps' `len` elements are valid for reads; `panel` holds NR · (1 + Σ taps · len) values;
/// from each output row plus `channel`, `channels` elements are valid for writes (and reads, for
/// `residual`), and no other thread reads or writes them meanwhile.
pub type ConvTile = unsafe fn(&TileArgs);

/// The tile routine of tier `S` for `M` rows.
///
/// # Safety
/// See [`ConvTile`].
pub(super) unsafe fn conv_tile<S: Simd, const M: usize>(args: &TileArgs) {
    // SAFETY: the caller guarantees the tier and the pointers below.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || tile::<S, M>(s, args),
        );
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const M: usize>(s: S, args: &TileArgs) {
    let lanes = S::LANES;
    // SAFETY: all pointers below stay inside the ranges that `ConvTile` asks of its caller.
    unsafe {
        let mut w = args.panel;
        let mut ahead = args.ahead;
        let mut acc = [[s.load(w), s.load(w.add(lanes))]; M];
        w = w.add(2 * lanes);

        fetch::<S, M>(s, &args.finish);

        for segment in args.segments {
            debug_assert!(segment.rows.len() >= M);
            for &tap in segment.taps {
                let rows: [*const f32; M] =
                    std::array::from_fn(|i| segment.rows.get_unchecked(i).add(tap).cast_const());
                let mut k = 0;
                // Four at a time: the row pointers do not all fit in registers, and so each
                // reload serves four steps.
                while k + 4 <= segment.len {
                    step::<S, M>(s, &mut acc, &rows, k, w);
                    step::<S, M>(s, &mut acc, &rows, k + 1, w.add(2 * lanes));
                    step::<S, M>(s, &mut acc, &rows, k + 2, w.add(4 * lanes));
                    step::<S, M>(s, &mut acc, &rows, k + 3, w.add(6 * lanes));
                    w = w.add(8 * lanes);
                    k += 4;
                    for _ in 0..args.ahead_lines {
                        s.prefetch(ahead);
                        ahead = ahead.wrapping_add(LINE);
                    }
                }
                while k < segment.len {
                    step::<S, M>(s, &mut acc, &rows, k, w);
                    w = w.add(2 * lanes);
                    k += 1;
                }
            }
        }

        finish::<S, M>(s, acc, &args.finish);
    }
}

/// Fetches the lines that are read or written when the sums are ready: also a store waits for its line.
#[inline(always)]
pub(in crate::kernels::conv) fn fetch<S: Simd, const M: usize>(s: S, args: &Finish) {
    for row in &args.residual.unwrap_or(args.out)[..M] {
        for line in (0..2 * S::LANES).step_by(LINE) {
            s.prefetch(row.wrapping_add(args.channel + line));
        }
    }
}

/// Adds the residual, applies ReLU and stores the sums.
///
/// # Safety
/// As for the output and the residual of a [`ConvTile`].
#[inline(always)]
pub(in crate::kernels::conv) unsafe fn finish<S: Simd, const M: usize>(
    s: S,
    acc: [[S::V; 2]; M],
    args: &Finish,
) {
    // SAFETY: the caller keeps the same contract.
    unsafe {
        if args.channels == 2 * S::LANES {
            finish_full::<S, M>(s, acc, args);
        } else {
            finish_part::<S, M>(s, acc, args);
        }
    }
}

/// One k: `acc[i] += rows[i][k] · w`.
#[inline(always)]
unsafe fn step<S: Simd, const M: usize>(
    s: S,
    acc: &mut [[S::V; 2]; M],
    rows: &[*const f32; M],
    k: usize,
    w: *const f32,
) {
    // SAFETY: as in `tile`.
    unsafe {
        let w0 = s.load(w);
        let w1 = s.load(w.add(S::LANES));
        for i in 0..M {
            let x = s.splat(*rows[i].add(k));
            acc[i][0] = s.mul_add(x, w0, acc[i][0]);
            acc[i][1] = s.mul_add(x, w1, acc[i][1]);
        }
    }
}

/// `max(0, x)`, with the operands in the order that keeps a NaN.
#[inline(always)]
fn relu<S: Simd>(s: S, x: S::V) -> S::V {
    s.max(s.splat(0.0), x)
}

#[inline(always)]
unsafe fn finish_full<S: Simd, const M: usize>(s: S, mut acc: [[S::V; 2]; M], args: &Finish) {
    let (lanes, c) = (S::LANES, args.channel);
    // SAFETY: each row has NR channels from `channel` on.
    unsafe {
        if let Some(residual) = args.residual {
            for (i, row) in acc.iter_mut().enumerate() {
                let r = residual.get_unchecked(i).add(c);
                row[0] = s.add(row[0], s.load(r));
                row[1] = s.add(row[1], s.load(r.add(lanes)));
            }
        }
        if args.relu {
            for row in &mut acc {
                *row = [relu(s, row[0]), relu(s, row[1])];
            }
        }
        for (i, row) in acc.iter().enumerate() {
            let out = args.out.get_unchecked(i).add(c);
            s.store(out, row[0]);
            s.store(out.add(lanes), row[1]);
        }
    }
}

#[inline(always)]
unsafe fn finish_part<S: Simd, const M: usize>(s: S, acc: [[S::V; 2]; M], args: &Finish) {
    let lanes = S::LANES;
    let n = [
        args.channels.min(lanes),
        args.channels.saturating_sub(lanes),
    ];
    for (i, row) in acc.iter().enumerate() {
        for (j, &sum) in row.iter().enumerate() {
            let c = args.channel + j * lanes;
            // SAFETY: only the panel's `channels` are touched.
            unsafe {
                let mut x = sum;
                if let Some(residual) = args.residual {
                    let r = residual.get_unchecked(i).wrapping_add(c);
                    x = s.add(x, s.load_first(n[j], r));
                }
                if args.relu {
                    x = relu(s, x);
                }
                s.store_first(n[j], args.out.get_unchecked(i).wrapping_add(c), x);
            }
        }
    }
}
