//! The microkernel of int8 and bf16: a tile of MR output pixels by NR output channels in registers.
//!
//! It is that of f32 with a group of k in place of one:
//!
//! ```text
//!                         NR = 2 registers of groups of weights
//!                        ┌────────────┬────────────┐
//!   row[0] + group k   → │ acc[0][0]  │ acc[0][1]  │   acc[i][j] += Σ row[i][k..k + DEPTH] · w[k..k + DEPTH][j]
//!   row[1] + group k   → │ acc[1][0]  │ acc[1][1]  │
//!        ⋮               │     ⋮      │     ⋮      │   k runs over the groups of the window, in order
//!   row[MR-1]          → │            │            │
//!                        └────────────┴────────────┘
//! ```
//!
//! At the end [`Finish`] makes a result of each sum, which is rounded once, to an activation; fc's stay f32.

use half::bf16;

use crate::dtype::Element;
use crate::kernels::conv::tile::Segment;
use crate::kernels::view::line_of;
use crate::simd::{Dot, Finish, Simd};

/// The places of a cache line.
const LINE: usize = line_of::<f32>();

/// The most lanes of a register.
const MOST_LANES: usize = 16;

/// The arguments of a tile.
pub struct TileArgs<'a, A, O> {
    /// The inputs; two if a block's shortcut convolution is summed into its last convolution.
    pub segments: &'a [Segment<'a, A>],
    /// The panel: the rows of NR values that [`Finish`] names, then for each group of k the NR groups of weights.
    pub panel: *const i32,
    /// For each of the tile's pixels, the output's channel 0.
    pub out: &'a [*mut O],
    /// For each of the tile's pixels, the residual's channel 0; it may be `out` itself.
    pub residual: Option<&'a [*mut O]>,
    /// The panel's first channel.
    pub channel: usize,
    /// The panel's channels, 1 to NR: fewer than NR in the last panel only.
    pub channels: usize,
    /// Makes negative results zero.
    pub relu: bool,
    /// Weights that are needed soon, to be fetched into the second-level cache meanwhile.
    pub ahead: *const i32,
    /// Cache lines of `ahead` to fetch for every four groups.
    pub ahead_lines: usize,
}

/// A tile routine for one number of rows M.
///
/// # Safety
/// The machine has the instructions. Each slice of rows has at least M pointers. From each input row, all taps'
/// `len` elements, whole groups of them, are valid for reads; `panel` holds NR · (HEADER + Σ taps · len / DEPTH) places;
/// from each output row plus `channel`, `channels` elements are valid for writes (and reads, for `residual`), and no
/// other thread reads or writes them meanwhile.
pub type DotTile<A, O> = unsafe fn(&TileArgs<A, O>);

/// A type of results.
pub trait Output<D: Dot>: Element {
    /// Loads `LANES` results of another layer.
    ///
    /// # Safety
    /// `p` is valid for reading `LANES` elements.
    unsafe fn load(d: D, p: *const Self) -> Vector<D>;

    /// Stores the results of one register, rounded.
    ///
    /// # Safety
    /// `p` is valid for writing `LANES` elements.
    unsafe fn store(d: D, p: *mut Self, v: Vector<D>);
}

/// The f32 register beside the sums.
type Vector<D> = <<D as Dot>::S as Simd>::V;

impl<D: Dot> Output<D> for f32 {
    #[inline(always)]
    unsafe fn load(d: D, p: *const f32) -> Vector<D> {
        // SAFETY: the caller guarantees the elements.
        unsafe { d.simd().load(p) }
    }

    #[inline(always)]
    unsafe fn store(d: D, p: *mut f32, v: Vector<D>) {
        // SAFETY: the caller guarantees the elements.
        unsafe { d.simd().store(p, v) };
    }
}

/// The activations of a layer.
macro_rules! activations {
    ($type:ty) => {
        impl<D: Dot<A = $type>> Output<D> for $type {
            #[inline(always)]
            unsafe fn load(d: D, p: *const $type) -> Vector<D> {
                // SAFETY: the caller guarantees the elements.
                unsafe { d.load_activations(p) }
            }

            #[inline(always)]
            unsafe fn store(d: D, p: *mut $type, v: Vector<D>) {
                // SAFETY: the caller guarantees the elements.
                unsafe { d.store_activations(p, v) };
            }
        }
    };
}

activations!(bf16);
activations!(i16);
activations!(u8);

/// The tile routine of `D` for `M` rows of results of `O`.
///
/// # Safety
/// See [`DotTile`].
pub(super) unsafe fn conv_tile<D: Dot, O: Output<D>, const M: usize>(args: &TileArgs<D::A, O>) {
    // SAFETY: the caller guarantees the instructions and the pointers below.
    unsafe {
        let d = D::assume();
        d.vectorize(
            #[inline(always)]
            || tile::<D, O, M>(d, args),
        );
    }
}

#[inline(always)]
unsafe fn tile<D: Dot, O: Output<D>, const M: usize>(d: D, args: &TileArgs<D::A, O>) {
    let (s, lanes) = (d.simd(), D::S::LANES);
    // SAFETY: all pointers below stay inside the ranges that `DotTile` asks of its caller.
    unsafe {
        let mut w = args.panel.add(D::F::HEADER * 2 * lanes);
        let mut ahead = args.ahead;
        let bias = [0, lanes].map(|i| d.sums(d.load(args.panel.add(i))));
        let mut acc = [bias; M];
        for row in &args.residual.unwrap_or(args.out)[..M] {
            s.prefetch(row.wrapping_add(args.channel).cast());
        }
        for segment in args.segments {
            debug_assert!(segment.rows.len() >= M && segment.len.is_multiple_of(D::DEPTH));
            for &tap in segment.taps {
                let rows: [*const D::A; M] =
                    std::array::from_fn(|i| segment.rows.get_unchecked(i).add(tap).cast_const());
                let mut k = 0;
                // Four groups at a time: each reload of a row's pointer serves four steps.
                while k + 4 * D::DEPTH <= segment.len {
                    step::<D, M>(d, &mut acc, &rows, k, w);
                    step::<D, M>(d, &mut acc, &rows, k + D::DEPTH, w.add(2 * lanes));
                    step::<D, M>(d, &mut acc, &rows, k + 2 * D::DEPTH, w.add(4 * lanes));
                    step::<D, M>(d, &mut acc, &rows, k + 3 * D::DEPTH, w.add(6 * lanes));
                    w = w.add(8 * lanes);
                    k += 4 * D::DEPTH;
                    for _ in 0..args.ahead_lines {
                        s.prefetch(ahead.cast());
                        ahead = ahead.wrapping_add(LINE);
                    }
                }
                while k < segment.len {
                    step::<D, M>(d, &mut acc, &rows, k, w);
                    w = w.add(2 * lanes);
                    k += D::DEPTH;
                }
            }
        }
        for j in 0..2 {
            let channels = args.channels.saturating_sub(j * lanes).min(lanes);
            let rows = args.panel.add((2 + j) * lanes).cast::<f32>();
            let finish = D::F::load(s, rows, 2 * lanes);
            let c = args.channel + j * lanes;
            for (i, row) in acc.iter().enumerate() {
                let sum = d.to_f32(row[j]);
                let out = args.out.get_unchecked(i).wrapping_add(c);
                let skip = args
                    .residual
                    .map(|rows| rows.get_unchecked(i).wrapping_add(c).cast_const());
                if channels == lanes {
                    let skip = skip.map(|skip| O::load(d, skip));
                    O::store(d, out, finish.apply(s, sum, skip, args.relu));
                } else {
                    let skip = skip.map(|skip| load_part(d, skip, channels));
                    store_part(d, out, finish.apply(s, sum, skip, args.relu), channels);
                }
            }
        }
    }
}

/// One group of k: `acc[i] += rows[i][k..] · w`.
#[inline(always)]
unsafe fn step<D: Dot, const M: usize>(
    d: D,
    acc: &mut [[D::V; 2]; M],
    rows: &[*const D::A; M],
    k: usize,
    w: *const i32,
) {
    // SAFETY: as in `tile`.
    unsafe {
        let w0 = d.load(w);
        let w1 = d.load(w.add(D::S::LANES));
        for i in 0..M {
            let x = d.splat_group(rows[i].add(k));
            acc[i][0] = d.dot(x, w0, acc[i][0]);
            acc[i][1] = d.dot(x, w1, acc[i][1]);
        }
    }
}

/// Loads the first `n` results of a register, by way of a copy.
#[inline(always)]
unsafe fn load_part<D: Dot, O: Output<D>>(d: D, p: *const O, n: usize) -> Vector<D> {
    const { assert!(D::S::LANES <= MOST_LANES) };
    let mut results: [O; MOST_LANES] = [bytemuck::Zeroable::zeroed(); MOST_LANES];
    // SAFETY: the caller guarantees `n` elements, and the copy holds a register.
    unsafe {
        std::ptr::copy_nonoverlapping(p, results.as_mut_ptr(), n);
        O::load(d, results.as_ptr())
    }
}

/// Stores the first `n` results of a register, by way of a copy.
#[inline(always)]
unsafe fn store_part<D: Dot, O: Output<D>>(d: D, p: *mut O, v: Vector<D>, n: usize) {
    const { assert!(D::S::LANES <= MOST_LANES) };
    let mut results: [O; MOST_LANES] = [bytemuck::Zeroable::zeroed(); MOST_LANES];
    // SAFETY: the caller guarantees `n` elements, and the copy holds a register.
    unsafe {
        O::store(d, results.as_mut_ptr(), v);
        std::ptr::copy_nonoverlapping(results.as_ptr(), p, n);
    }
}
