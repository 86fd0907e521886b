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
//! Rows of dy lie far apart in memory, so they are first copied into panels ([`pack_rows`]), and so are the
//! windows of more than a pixel. An activation that is not in memory is computed from its convolution's
//! output on this way.

use crate::simd::Simd;

/// The arguments of a tile: `out[i, j] (+)= Σ_m a[m, i] · b[m, j]`.
pub struct OuterArgs {
    /// `[rows, M]`.
    pub a: *const f32,
    /// Elements from a row of `a` to the next.
    pub a_stride: usize,
    /// `[rows, NR]`.
    pub b: *const f32,
    /// Elements from a row of `b` to the next.
    pub b_stride: usize,
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
                let whole = args.len / S::LANES * S::LANES;
                let rest = args.len - whole;
                let end = args.len + args.zeros;
                for (r, row) in args.rows.iter().enumerate() {
                    let out = args.out.add(r * args.width);
                    let mut i = 0;
                    if !row.is_null() {
                        let row = row.add(args.first);
                        match args.norm {
                            None => {
                                while i < whole {
                                    s.store(out.add(i), s.load(row.add(i)));
                                    i += S::LANES;
                                }
                            }
                            Some(norm) => {
                                while i < whole {
                                    let x = normalized(s, norm, S::LANES, row, i);
                                    s.store(out.add(i), x);
                                    i += S::LANES;
                                }
                            }
                        }
                        if rest > 0 {
                            let x = match args.norm {
                                None => s.load_first(rest, row.add(i)),
                                Some(norm) => normalized(s, norm, rest, row, i),
                            };
                            let write = (end - i).min(S::LANES);
                            s.store_first(write, out.add(i), x);
                            i += write;
                        }
                    }
                    while i < end {
                        let write = (end - i).min(S::LANES);
                        s.store_first(write, out.add(i), s.splat(0.0));
                        i += write;
                    }
                }
            },
        );
    }
}

/// `max(0, x · scale + shift)` of `len` values of `row` from element `i` on.
///
/// # Safety
/// As for [`PackRows`].
#[inline(always)]
pub(in crate::kernels::conv) unsafe fn normalized<S: Simd>(
    s: S,
    (scale, shift): (*const f32, *const f32),
    len: usize,
    row: *const f32,
    i: usize,
) -> S::V {
    // SAFETY: the caller guarantees the elements.
    unsafe {
        let x = s.load_up_to(len, row.add(i));
        let (scale, shift) = (
            s.load_up_to(len, scale.add(i)),
            s.load_up_to(len, shift.add(i)),
        );
        s.max(s.splat(0.0), s.mul_add(x, scale, shift))
    }
}
