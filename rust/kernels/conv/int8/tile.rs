//! The microkernel of int8: a tile of MR output pixels by NR output channels in registers.
//!
//! It is that of f32 with a group of k in place of one, and sums in i32:
//!
//! ```text
//!                         NR = 2 registers of groups of weights
//!                        ┌────────────┬────────────┐
//!   row[0] + group k   → │ acc[0][0]  │ acc[0][1]  │   acc[i][j] += Σ row[i][k..k + DEPTH] · w[k..k + DEPTH][j]
//!   row[1] + group k   → │ acc[1][0]  │ acc[1][1]  │
//!        ⋮               │     ⋮      │     ⋮      │   sums of whole numbers: no order changes them
//!   row[MR-1]          → │            │            │
//!                        └────────────┴────────────┘
//! ```
//!
//! At the end a sum becomes `f32(sum) · multiplier`, plus `f32(residual) · ratio`. In a layer between others it is
//! then clamped and rounded to an activation; fc's stay f32.

use super::pack::HEADER;
use crate::dtype::Element;
use crate::kernels::conv::tile::Segment;
use crate::kernels::view::line_of;
use crate::simd::{Dot, Simd};

/// The places of a cache line.
const LINE: usize = line_of::<f32>();

/// The most lanes of a register.
const MOST_LANES: usize = 16;

/// The arguments of a tile.
pub struct TileArgs<'a, A, O> {
    /// The inputs; two if a block's shortcut convolution is summed into its last convolution.
    pub segments: &'a [Segment<'a, A>],
    /// The panel: NR biases, NR multipliers, NR ratios, then for each group of k the NR groups of weights.
    pub panel: *const i32,
    /// For each of the tile's pixels, the output's channel 0.
    pub out: &'a [*mut O],
    /// For each of the tile's pixels, the residual's channel 0; it may be `out` itself.
    pub residual: Option<&'a [*mut O]>,
    /// The panel's first channel.
    pub channel: usize,
    /// The panel's channels, 1 to NR: fewer than NR in the last panel only.
    pub channels: usize,
    /// Weights that are needed soon, to be fetched into the second-level cache meanwhile.
    pub ahead: *const i32,
    /// Cache lines of `ahead` to fetch for every four groups.
    pub ahead_lines: usize,
}

/// A tile routine for one number of rows M.
///
/// # Safety
/// The machine has the instructions. Each slice of rows has at least M pointers. From each input row, all taps'
/// `len` elements, whole groups of them, are valid for reads; `panel` holds NR · (3 + Σ taps · len / DEPTH) places;
/// from each output row plus `channel`, `channels` elements are valid for writes (and reads, for `residual`), and no
/// other thread reads or writes them meanwhile.
pub type IntTile<A, O> = unsafe fn(&TileArgs<A, O>);

/// A type of results.
pub trait Output<D: Dot>: Element {
    /// Adds the residual, if these are activations, and stores the results of one register.
    ///
    /// # Safety
    /// `out` is valid for writing, and the residual for reading, `LANES` elements.
    unsafe fn store(d: D, v: Vector<D>, residual: Option<(*const Self, Vector<D>)>, out: *mut Self);
}

/// The f32 register beside the sums.
type Vector<D> = <<D as Dot>::S as Simd>::V;

impl<D: Dot> Output<D> for f32 {
    #[inline(always)]
    unsafe fn store(d: D, v: Vector<D>, _: Option<(*const f32, Vector<D>)>, out: *mut f32) {
        // SAFETY: the caller guarantees the elements.
        unsafe { d.simd().store(out, v) };
    }
}

/// The activations of a layer.
macro_rules! activations {
    ($type:ty) => {
        impl<D: Dot<A = $type>> Output<D> for $type {
            #[inline(always)]
            unsafe fn store(
                d: D,
                v: Vector<D>,
                residual: Option<(*const $type, Vector<D>)>,
                out: *mut $type,
            ) {
                let s = d.simd();
                // SAFETY: the caller guarantees the elements.
                unsafe {
                    let v = match residual {
                        // Two roundings, on every tier.
                        Some((skip, ratio)) => s.add(v, s.mul(d.load_activations(skip), ratio)),
                        None => v,
                    };
                    d.store_activations(out, v);
                }
            }
        }
    };
}

activations!(i16);
activations!(u8);

/// The tile routine of `D` for `M` rows of results of `O`.
///
/// # Safety
/// See [`IntTile`].
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
    // SAFETY: all pointers below stay inside the ranges that `IntTile` asks of its caller.
    unsafe {
        let mut w = args.panel.add(HEADER * 2 * lanes);
        let mut ahead = args.ahead;
        let mut acc = [[d.load(args.panel), d.load(args.panel.add(lanes))]; M];
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
        let header = args.panel.add(2 * lanes).cast::<f32>();
        for j in 0..2 {
            let channels = args.channels.saturating_sub(j * lanes).min(lanes);
            let multiplier = s.load(header.add(j * lanes));
            let ratio = s.load(header.add((2 + j) * lanes));
            let c = args.channel + j * lanes;
            for (i, row) in acc.iter().enumerate() {
                let v = s.mul(d.to_f32(row[j]), multiplier);
                let out = args.out.get_unchecked(i).wrapping_add(c);
                let skip = args
                    .residual
                    .map(|rows| rows.get_unchecked(i).wrapping_add(c).cast_const());
                if channels == lanes {
                    O::store(d, v, skip.map(|skip| (skip, ratio)), out);
                } else {
                    store_part(d, v, skip.map(|skip| (skip, ratio)), out, channels);
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

/// Stores the first `n` results of a register, by way of a copy.
#[inline(always)]
unsafe fn store_part<D: Dot, O: Output<D>>(
    d: D,
    v: Vector<D>,
    residual: Option<(*const O, Vector<D>)>,
    out: *mut O,
    n: usize,
) {
    const { assert!(D::S::LANES <= MOST_LANES) };
    let mut skips: [O; MOST_LANES] = [bytemuck::Zeroable::zeroed(); MOST_LANES];
    let mut results = skips;
    // SAFETY: the caller guarantees `n` elements, and the copies hold a register.
    unsafe {
        let residual = residual.map(|(skip, ratio)| {
            std::ptr::copy_nonoverlapping(skip, skips.as_mut_ptr(), n);
            (skips.as_ptr(), ratio)
        });
        O::store(d, v, residual, results.as_mut_ptr());
        std::ptr::copy_nonoverlapping(results.as_ptr(), out, n);
    }
}
