//! The microkernel of bf16: a tile of MR output pixels by NR output channels in registers.
//!
//! It is that of f32 with a pair of k in place of one, on rows that have been copied side by side:
//!
//! ```text
//!                        NR = 2 registers of pairs of weights
//!                       ┌────────────┬────────────┐
//!   row[0], pair k    → │ acc[0][0]  │ acc[0][1]  │   acc[i][j] += splat(row[i][k]) · w[k][j], of both halves
//!   row[1], pair k    → │ acc[1][0]  │ acc[1][1]  │
//!        ⋮              │     ⋮      │     ⋮      │   k runs over the pairs of the window, in order
//!   row[MR-1]         → │            │            │
//!                       └────────────┴────────────┘
//! ```

use crate::kernels::conv::f32::{Finish, fetch, finish};
use crate::kernels::view::LINE_BYTES;
use crate::simd::{Bf16, Simd};

/// The pairs of a cache line.
const LINE: usize = LINE_BYTES / size_of::<u32>();

/// The arguments of a tile: `out = relu(bias + rows · weights + residual)`.
pub(super) struct TileArgs<'a> {
    /// The first row's first pair.
    pub(super) rows: *const u32,
    /// Pairs from a row to the next.
    pub(super) stride: usize,
    /// Pairs of k.
    pub(super) pairs: usize,
    /// NR biases, then for each pair of k the NR pairs of weights.
    pub(super) panel: *const u32,
    /// The place of the sums.
    pub(super) finish: Finish<'a>,
    /// Weights that are needed soon, to be fetched into the second-level cache meanwhile.
    pub(super) ahead: *const u32,
    /// Cache lines of `ahead` to fetch for every four pairs.
    pub(super) ahead_lines: usize,
}

/// A tile routine for one number of rows M.
///
/// # Safety
/// The machine has the instructions; `pairs` pairs of M rows and NR · (1 + pairs) places of `panel` are valid for
/// reads; the finish is that of M rows, as for the f32 kernel's.
pub(super) type Bf16Tile = unsafe fn(&TileArgs);

/// The tile routine of `B` for `M` rows.
///
/// # Safety
/// See [`Bf16Tile`].
pub(super) unsafe fn conv_tile<B: Bf16, const M: usize>(args: &TileArgs) {
    // SAFETY: the caller guarantees the instructions and the pointers below.
    unsafe {
        let b = B::assume();
        b.vectorize(
            #[inline(always)]
            || tile::<B, M>(b, args),
        );
    }
}

#[inline(always)]
unsafe fn tile<B: Bf16, const M: usize>(b: B, args: &TileArgs) {
    let (s, lanes) = (b.simd(), B::S::LANES);
    // SAFETY: all pointers below stay inside the ranges that `Bf16Tile` asks of its caller.
    unsafe {
        let mut w = args.panel;
        let mut ahead = args.ahead;
        let bias = w.cast::<f32>();
        let mut acc = [[s.load(bias), s.load(bias.add(lanes))]; M];
        w = w.add(2 * lanes);
        fetch::<B::S, M>(s, &args.finish);
        let rows: [*const u32; M] = std::array::from_fn(|i| args.rows.add(i * args.stride));
        let mut k = 0;
        // Four at a time, as in f32: each reload of a row's pointer serves four steps.
        while k + 4 <= args.pairs {
            step::<B, M>(b, &mut acc, &rows, k, w);
            step::<B, M>(b, &mut acc, &rows, k + 1, w.add(2 * lanes));
            step::<B, M>(b, &mut acc, &rows, k + 2, w.add(4 * lanes));
            step::<B, M>(b, &mut acc, &rows, k + 3, w.add(6 * lanes));
            w = w.add(8 * lanes);
            k += 4;
            for _ in 0..args.ahead_lines {
                s.prefetch(ahead.cast());
                ahead = ahead.wrapping_add(LINE);
            }
        }
        while k < args.pairs {
            step::<B, M>(b, &mut acc, &rows, k, w);
            w = w.add(2 * lanes);
            k += 1;
        }
        finish::<B::S, M>(s, acc, &args.finish);
    }
}

/// One pair of k: `acc[i] += rows[i][k] · w`.
#[inline(always)]
unsafe fn step<B: Bf16, const M: usize>(
    b: B,
    acc: &mut [[<B::S as Simd>::V; 2]; M],
    rows: &[*const u32; M],
    k: usize,
    w: *const u32,
) {
    // SAFETY: as in `tile`.
    unsafe {
        let w0 = b.load_pairs(w);
        let w1 = b.load_pairs(w.add(B::S::LANES));
        for i in 0..M {
            let x = b.splat_pair(*rows[i].add(k));
            acc[i][0] = b.dot(x, w0, acc[i][0]);
            acc[i][1] = b.dot(x, w1, acc[i][1]);
        }
    }
}
