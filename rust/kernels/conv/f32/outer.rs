//! The microkernel of weight gradients: a tile of MR rows of k by NR output channels in registers.
//!
//! The gradient of a convolution's weights is a product over the output pixels:
//! `dw[k, o] = Σ_m a[m, k] · dy[m, o]`, with row `m` of `a` being the window of pixel m. So k and o
//! lie side by side in a row of either factor, and each pixel adds an outer product:
//!
//! ```text
//!                        NR = 2 registers of dy (one m)
//!                       ┌────────────┬────────────┐
//!   a[m][k0]          → │ acc[0][0]  │ acc[0][1]  │   acc[i][j] += splat(a[m][k0 + i]) · dy[m][j]
//!   a[m][k0 + 1]      → │ acc[1][0]  │ acc[1][1]  │
//!        ⋮              │     ⋮      │     ⋮      │   m runs over the pixels of a block
//!   a[m][k0 + MR - 1] → │            │            │
//!                       └────────────┴────────────┘
//! ```
//!
//! Rows of the factors lie far apart in memory, so both are first copied into tiles and panels
//! ([`pack_rows`]). An activation that is not in memory is computed from its convolution's output
//! on this way.

use crate::simd::Simd;

/// The arguments of a tile: `out[i, j] (+)= Σ_m a[m, i] · b[m, j]`.
pub struct OuterArgs {
    /// `[rows, M]`.
    pub a: *const f32,
    /// `[rows, NR]`.
    pub b: *const f32,
    /// Pixels.
    pub rows: usize,
    /// `[M, NR]`.
    pub out: *mut f32,
    /// Adds to the values of `out`.
    pub accumulate: bool,
}

/// A tile routine for one M of one tier.
///
/// # Safety
/// The machine has the tier; `a` and `b` are valid for reading as many values as their shapes name,
/// and `out` for writing, and for reading if the tile accumulates.
pub type OuterTile = unsafe fn(&OuterArgs);

/// The tile routine of tier `S` for `M` rows of k.
///
/// # Safety
/// See [`OuterTile`].
pub(super) unsafe fn outer_tile<S: Simd, const M: usize>(args: &OuterArgs) {
    // SAFETY: the caller guarantees the tier and the pointers.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let lanes = S::LANES;
                let mut acc = [[s.splat(0.0); 2]; M];
                if args.accumulate {
                    for (i, row) in acc.iter_mut().enumerate() {
                        let out = args.out.add(2 * lanes * i);
                        *row = [s.load(out), s.load(out.add(lanes))];
                    }
                }
                let (mut a, mut b) = (args.a, args.b);
                for _ in 0..args.rows {
                    let (b0, b1) = (s.load(b), s.load(b.add(lanes)));
                    for (i, row) in acc.iter_mut().enumerate() {
                        let x = s.splat(*a.add(i));
                        row[0] = s.mul_add(x, b0, row[0]);
                        row[1] = s.mul_add(x, b1, row[1]);
                    }
                    a = a.add(M);
                    b = b.add(2 * lanes);
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

/// The arguments of a copy: `out[r, i] = rows[r][first + i]`, or `max(0, x · scale + shift)` of it.
pub struct PackArgs<'a> {
    /// The rows' starts; null for a row of zeros.
    pub rows: &'a [*const f32],
    /// The first element that is taken.
    pub first: usize,
    /// The number of elements that are taken.
    pub len: usize,
    /// The scale and the shift of each element: they make an activation of a convolution's output.
    pub norm: Option<(*const f32, *const f32)>,
    /// The first result's place.
    pub out: *mut f32,
    /// Elements of a row of `out`.
    pub width: usize,
    /// Zeros after the elements of each row.
    pub zeros: usize,
}

/// The copy of one tier.
///
/// # Safety
/// The machine has the tier; from each row that is not null, elements `first..first + len` are valid for
/// reads, and so are `len` values of the norm's scale and shift; each row of `out` is valid for
/// writing `len + zeros` values.
pub type PackRows = unsafe fn(&PackArgs);

/// The copy of tier `S`.
///
/// # Safety
/// See [`PackRows`].
pub(super) unsafe fn pack_rows<S: Simd>(args: &PackArgs) {
    // SAFETY: the caller guarantees the tier and the pointers.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let end = args.len + args.zeros;
                for i in (0..end).step_by(S::LANES) {
                    let take = args.len.saturating_sub(i).min(S::LANES);
                    let write = (end - i).min(S::LANES);
                    match args.norm {
                        None => {
                            for (r, row) in args.rows.iter().enumerate() {
                                let x = values(s, *row, args.first + i, take);
                                put(s, args.out.add(r * args.width + i), write, x);
                            }
                        }
                        Some((scale, shift)) => {
                            let scale = s.load_first(take, scale.wrapping_add(i));
                            let shift = s.load_first(take, shift.wrapping_add(i));
                            for (r, row) in args.rows.iter().enumerate() {
                                let mut x = s.splat(0.0);
                                if !row.is_null() {
                                    x = values(s, *row, args.first + i, take);
                                    x = s.max(s.splat(0.0), s.mul_add(x, scale, shift));
                                }
                                put(s, args.out.add(r * args.width + i), write, x);
                            }
                        }
                    }
                }
            },
        );
    }
}

/// `len` values from element `first` of `row` on, then zeros; zeros only if `row` is null.
#[inline(always)]
unsafe fn values<S: Simd>(s: S, row: *const f32, first: usize, len: usize) -> S::V {
    if row.is_null() {
        return s.splat(0.0);
    }
    // SAFETY: the caller guarantees the elements.
    unsafe {
        match len == S::LANES {
            true => s.load(row.add(first)),
            false => s.load_first(len, row.wrapping_add(first)),
        }
    }
}

#[inline(always)]
unsafe fn put<S: Simd>(s: S, out: *mut f32, len: usize, x: S::V) {
    // SAFETY: the caller guarantees `len` elements.
    unsafe {
        match len == S::LANES {
            true => s.store(out, x),
            false => s.store_first(len, out, x),
        }
    }
}
