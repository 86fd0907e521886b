//! The windows of output pixels, rounded to bf16 and laid side by side.

use crate::kernels::view::LINE_BYTES;
use crate::simd::{Bf16, Simd};

/// Pairs of a cache line.
const LINE: usize = LINE_BYTES / size_of::<u32>();

/// Values that a copy may write after a row's last one, at most: a step rounds two registers.
const OVERHANG: usize = 31;

/// Pairs from a window to the next, for windows of `k` values: an odd number of cache lines, so that the same place
/// of each falls into another set of the first-level cache.
pub(super) fn row_stride(k: usize) -> usize {
    ((k + OVERHANG).div_ceil(2 * LINE) | 1) * LINE
}

/// The arguments of a copy of windows: row r holds the taps of window r one after the other, then zeros.
pub(super) struct RowsArgs<'a> {
    /// The windows' first elements.
    pub(super) rows: &'a [*mut f32],
    /// Offsets of the taps from there.
    pub(super) taps: &'a [usize],
    /// Contiguous elements of a tap.
    pub(super) len: usize,
    /// The first row.
    pub(super) out: *mut u32,
    /// Pairs from a row to the next: [`row_stride`].
    pub(super) stride: usize,
}

/// The copy of one tier.
///
/// # Safety
/// The machine has the instructions; each tap's elements are valid for reads, and all rows for writes.
pub(super) type RoundRows = unsafe fn(&RowsArgs);

/// The copy of `B`. What it writes after a tap is zero, and overwritten by the next one.
///
/// # Safety
/// See [`RoundRows`].
pub(super) unsafe fn round_rows<B: Bf16>(args: &RowsArgs) {
    // SAFETY: the caller guarantees the instructions and the elements.
    unsafe {
        let b = B::assume();
        b.vectorize(
            #[inline(always)]
            || {
                let (s, lanes) = (b.simd(), B::S::LANES);
                let whole = args.len / (2 * lanes) * (2 * lanes);
                for (r, row) in args.rows.iter().enumerate() {
                    let mut out = args.out.add(r * args.stride).cast::<u16>();
                    for &tap in args.taps {
                        let from = row.add(tap).cast_const();
                        let mut i = 0;
                        while i < whole {
                            let (x, y) = (s.load(from.add(i)), s.load(from.add(i + lanes)));
                            b.store_pairs(out.add(i).cast(), b.round_row(x, y));
                            i += 2 * lanes;
                        }
                        if i < args.len {
                            let rest = args.len - i;
                            let first = s.load_first(rest.min(lanes), from.add(i));
                            let second = match rest.checked_sub(lanes) {
                                Some(more) => s.load_first(more, from.add(i + lanes)),
                                None => s.splat(0.0),
                            };
                            b.store_pairs(out.add(i).cast(), b.round_row(first, second));
                        }
                        out = out.add(args.len);
                    }
                }
            },
        );
    }
}
