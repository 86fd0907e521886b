//! Pooling of whole numbers, one output pixel at a time, NHWC. The loops are plain; the compiler makes vectors of
//! them.

use super::avg::AvgPoolArgs;
use super::max::MaxPoolArgs;
use crate::simd::{Activation, IntDot};

/// Channels at a time: their results stay in registers.
const BLOCK: usize = 32;

/// The max pool of `D`'s activations.
///
/// # Safety
/// See [`MaxPool`](super::MaxPool).
pub(super) unsafe fn int_max_pool<D: IntDot>(args: &MaxPoolArgs<D::A>) {
    let pixels = &args.pixels;
    // SAFETY: the caller guarantees the instructions, and `channels` values at each pixel and at `out`.
    unsafe {
        D::assume().vectorize(
            #[inline(always)]
            || {
                for start in (0..args.channels).step_by(BLOCK) {
                    let n = BLOCK.min(args.channels - start);
                    let mut most = [<D::A as bytemuck::Zeroable>::zeroed(); BLOCK];
                    for y in 0..pixels.height {
                        let row = pixels.first.add(y * pixels.row_pitch + start);
                        for x in 0..pixels.width {
                            let pixel = row.add(x * pixels.pixel_stride);
                            let pixel = std::slice::from_raw_parts(pixel, n);
                            for (most, &value) in most.iter_mut().zip(pixel) {
                                *most = value.max(*most);
                            }
                        }
                    }
                    let out = std::slice::from_raw_parts_mut(args.out.add(start), n);
                    out.copy_from_slice(&most[..n]);
                }
            },
        );
    }
}

/// The average pool from `D`'s activations to those of `O`: the sum in f32, times the factor of units and of the mean
/// in f32, then clamped and rounded.
///
/// # Safety
/// See [`AvgPool`](super::avg::AvgPool).
pub(super) unsafe fn int_avg_pool<D: IntDot, O: Activation>(args: &AvgPoolArgs<D::A, O>) {
    let pixels = &args.pixels;
    let factor = (args.units.ratio / args.divisor as f64) as f32;
    // SAFETY: the caller guarantees the instructions, and `channels` values at each pixel and at `out`.
    unsafe {
        D::assume().vectorize(
            #[inline(always)]
            || {
                for start in (0..args.channels).step_by(BLOCK) {
                    let n = BLOCK.min(args.channels - start);
                    let mut sums = [0_i32; BLOCK];
                    for y in 0..pixels.height {
                        let row = pixels.first.add(y * pixels.row_pitch + start);
                        for x in 0..pixels.width {
                            let pixel = row.add(x * pixels.pixel_stride);
                            let pixel = std::slice::from_raw_parts(pixel, n);
                            for (sum, &value) in sums.iter_mut().zip(pixel) {
                                *sum += value.into();
                            }
                        }
                    }
                    let out = std::slice::from_raw_parts_mut(args.out.add(start), n);
                    for (out, &sum) in out.iter_mut().zip(&sums) {
                        let mean = (sum as f32 * factor).clamp(0.0, args.units.most);
                        *out = O::of(mean.round_ties_even());
                    }
                }
            },
        );
    }
}
