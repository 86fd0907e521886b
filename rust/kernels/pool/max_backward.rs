//! The gradient of a max pool, some channels of one image at a time, NHWC.

use std::ops::Range;

use super::image::ImagePixels;
use super::window::inside;
use crate::shape::PoolWindow;
use crate::simd::Simd;

/// The arguments of a max pool's gradient. Each window adds its output's gradient to the pixel that won;
/// all other pixels get zero.
///
/// A window's winner is torch's (`ATen/native/cpu/MaxPoolKernel.cpp`): the scan goes row by row from
/// -inf at the first pixel inside the image, and a pixel wins if it is larger or NaN. So the first of
/// equals wins, and the last NaN. Windows add in the order of their rows and columns.
#[derive(Clone, Copy)]
pub struct MaxPoolBackwardArgs {
    /// The forward's input, or what `norm` makes it from.
    pub input: ImagePixels<f32>,
    /// The factors and summands of a batch norm: the values compared are
    /// `max(0, input · scale + shift)`.
    pub norm: Option<[*const f32; 2]>,
    /// The gradient of each window.
    pub out_gradient: ImagePixels<f32>,
    /// The gradient of each pixel, overwritten.
    pub in_gradient: ImagePixels<f32>,
    /// The window; None is the whole image.
    pub window: Option<PoolWindow>,
    /// Channels, from those that the pixels begin with.
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; `channels` values of each pixel are valid for reads, and those of
/// `in_gradient`, which overlaps none of the others, for writes; a norm's arrays have as many. The images
/// are those of a pool with `window`: no window is empty, and `in_gradient` has the input's size.
pub type MaxPoolBackward = unsafe fn(&MaxPoolBackwardArgs);

/// The f32 routine of tier `S`.
///
/// # Safety
/// See [`MaxPoolBackward`].
pub(super) unsafe fn max_pool_backward<S: Simd>(args: &MaxPoolBackwardArgs) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                // A copy, which no store can change, stays in registers.
                let args = *args;
                let MaxPoolBackwardArgs { input, window, .. } = args;
                // Rows become zero just before the first window that covers them, in cache.
                let mut zeroed = 0;
                for oy in 0..args.out_gradient.height {
                    let ys = inside(window, oy, input.height);
                    zero_rows(s, &args, zeroed..ys.end);
                    zeroed = zeroed.max(ys.end);
                    for ox in 0..args.out_gradient.width {
                        let xs = inside(window, ox, input.width);
                        for c in (0..args.channels).step_by(S::LANES) {
                            let n = S::LANES.min(args.channels - c);
                            let gradient = s.load_up_to(n, args.out_gradient.at(oy, ox).add(c));
                            let winner = winner(s, &args, [&ys, &xs], c, n);
                            add_to(s, &args, [&ys, &xs], c, n, winner, gradient);
                        }
                    }
                }
                zero_rows(s, &args, zeroed..input.height);
            },
        );
    }
}

/// The place of a window's pixel `k` as a float: the number with these bits. Its order is that of `k`,
/// and it is exact up to a billion pixels, while `k as f32` is not.
#[inline(always)]
fn place(k: u32) -> f32 {
    f32::from_bits(1_f32.to_bits() + k)
}

/// The place of the pixel that wins, for `n` channels from `c` on.
#[inline(always)]
unsafe fn winner<S: Simd>(
    s: S,
    args: &MaxPoolBackwardArgs,
    [ys, xs]: [&Range<usize>; 2],
    c: usize,
    n: usize,
) -> S::V {
    // SAFETY: the caller guarantees `n` values from `c` on at each pixel and in the norm's arrays.
    unsafe {
        let norm = args
            .norm
            .map(|arrays| arrays.map(|array| s.load_up_to(n, array.add(c))));
        let mut max = s.splat(f32::NEG_INFINITY);
        let mut winner = s.splat(place(0));
        let mut k = 0;
        for y in ys.clone() {
            for x in xs.clone() {
                let mut value = s.load_up_to(n, args.input.at(y, x).add(c));
                if let Some([scale, shift]) = norm {
                    // The larger of it and zero; a NaN stays.
                    value = s.max_or_nan(s.mul_add(value, scale, shift), s.splat(0.0));
                }
                winner = s.if_above_or_nan(value, max, s.splat(place(k)), winner);
                max = s.max_or_nan(value, max);
                k += 1;
            }
        }
        winner
    }
}

/// Adds `gradient` to the pixel at place `winner`, for `n` channels from `c` on.
#[inline(always)]
unsafe fn add_to<S: Simd>(
    s: S,
    args: &MaxPoolBackwardArgs,
    [ys, xs]: [&Range<usize>; 2],
    c: usize,
    n: usize,
    winner: S::V,
    gradient: S::V,
) {
    // SAFETY: the caller guarantees `n` values from `c` on at each pixel.
    unsafe {
        let mut k = 0;
        for y in ys.clone() {
            for x in xs.clone() {
                let p = args.in_gradient.at(y, x).add(c);
                // Zero for all others, instead of a choice of the sum: compilers make that a masked
                // store, which the next window's load would wait for.
                let added = s.if_equal(winner, s.splat(place(k)), gradient, s.splat(0.0));
                s.store_up_to(n, p, s.add(s.load_up_to(n, p), added));
                k += 1;
            }
        }
    }
}

/// Writes zeros into some rows of `in_gradient`.
#[inline(always)]
unsafe fn zero_rows<S: Simd>(s: S, args: &MaxPoolBackwardArgs, rows: Range<usize>) {
    for y in rows {
        for x in 0..args.in_gradient.width {
            for c in (0..args.channels).step_by(S::LANES) {
                let n = S::LANES.min(args.channels - c);
                // SAFETY: the caller guarantees `channels` values at each pixel.
                unsafe { s.store_up_to(n, args.in_gradient.at(y, x).add(c), s.splat(0.0)) };
            }
        }
    }
}
