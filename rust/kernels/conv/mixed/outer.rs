//! The microkernel of weight gradients in bf16: outer products of pairs of pixels.
//!
//! It is that of f32 with the pixels m and m + 1 in place of one: an element of a row is a pair, of the same k or
//! the same channel of both pixels. An odd last pixel has a zero beside it.

use std::ptr;

use crate::kernels::conv::f32::{OuterArgs, PackArgs, normalized};
use crate::kernels::view::line_of;
use crate::simd::{Bf16, Simd};

/// The values of a cache line.
const LINE: usize = line_of::<f32>();

/// The tile routine of `B` for `M` rows of k: that of f32 on rows of pairs.
///
/// # Safety
/// As for [`OuterTile`](crate::kernels::conv::f32::OuterTile), with pairs in place of values of `a` and `b`.
pub(super) unsafe fn outer_tile<B: Bf16, const M: usize>(args: &OuterArgs) {
    // SAFETY: the caller guarantees the instructions and the pointers.
    unsafe {
        let pairs = B::assume();
        pairs.vectorize(
            #[inline(always)]
            || {
                let (s, lanes) = (pairs.simd(), B::S::LANES);
                let mut acc = [[s.splat(0.0); 2]; M];
                // A store waits for its line, and pairs are over in half the time.
                for line in (0..2 * lanes * M).step_by(LINE) {
                    s.prefetch(args.out.wrapping_add(line));
                }
                if args.accumulate {
                    for (i, row) in acc.iter_mut().enumerate() {
                        let out = args.out.add(2 * lanes * i);
                        *row = [s.load(out), s.load(out.add(lanes))];
                    }
                }
                let (mut a, mut b) = (args.a.cast::<u32>(), args.b.cast::<u32>());
                for _ in 0..args.rows {
                    let (b0, b1) = (pairs.load_pairs(b), pairs.load_pairs(b.add(lanes)));
                    for (i, row) in acc.iter_mut().enumerate() {
                        let x = pairs.splat_pair(*a.add(i));
                        row[0] = pairs.dot(x, b0, row[0]);
                        row[1] = pairs.dot(x, b1, row[1]);
                    }
                    a = a.add(args.a_stride);
                    b = b.add(args.b_stride);
                }
                for (i, row) in acc.iter().enumerate() {
                    let out = args.out.add(2 * lanes * i);
                    s.store(out, row[0]);
                    s.store(out.add(lanes), row[1]);
                }
            },
        );
    }
}

/// The copy of `B`: two rows become one row of pairs.
///
/// # Safety
/// As for the f32 copy, with pairs in place of values of `out`.
pub(super) unsafe fn pack_pairs<B: Bf16>(args: &PackArgs) {
    // SAFETY: the caller guarantees the instructions and the pointers.
    unsafe {
        let b = B::assume();
        b.vectorize(
            #[inline(always)]
            || {
                let lanes = B::S::LANES;
                let end = args.len + args.zeros;
                let whole = args.len / lanes * lanes;
                let mut r = 0;
                while r < args.rows.len() {
                    let out = args.out.cast::<u32>().add(r / 2 * args.width);
                    let second = match r + 1 < args.rows.len() {
                        true => args.rows[r + 1],
                        false => ptr::null(),
                    };
                    let rows = [args.rows[r], second];
                    let mut i = 0;
                    while i < whole {
                        b.store_pairs(out.add(i), pairs_at(b, rows, args, lanes, i));
                        i += lanes;
                    }
                    while i < end {
                        let n = args.len.saturating_sub(i).min(lanes);
                        let write = (end - i).min(lanes);
                        let pairs = pairs_at(b, rows, args, n, i);
                        b.store_first_pairs(write, out.add(i), pairs);
                        i += write;
                    }
                    r += 2;
                }
            },
        );
    }
}

/// The pairs of elements `i` to `i + n` of two rows.
///
/// # Safety
/// As for the copy.
#[inline(always)]
unsafe fn pairs_at<B: Bf16>(
    b: B,
    [first, second]: [*const f32; 2],
    args: &PackArgs,
    n: usize,
    i: usize,
) -> B::P {
    // SAFETY: the caller guarantees the elements of rows that are not null.
    unsafe {
        let first = values_at(b.simd(), first, args, n, i);
        b.round_lanes(first, values_at(b.simd(), second, args, n, i))
    }
}

/// The values of one row; zeros of one that is null.
///
/// # Safety
/// As for the copy.
#[inline(always)]
unsafe fn values_at<S: Simd>(s: S, row: *const f32, args: &PackArgs, n: usize, i: usize) -> S::V {
    // SAFETY: the caller guarantees the elements.
    unsafe {
        match args.norm {
            _ if row.is_null() => s.splat(0.0),
            None => s.load_up_to(n, row.add(args.first + i)),
            Some(norm) => normalized(s, norm, n, row.add(args.first), i),
        }
    }
}
