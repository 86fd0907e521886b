//! The gradient of an average pool, one row of the input at a time, NHWC.

use super::image::ImagePixels;
use super::window::{divisor, inside, over};
use crate::shape::PoolWindow;
use crate::simd::Simd;

/// The arguments of a row: `in_gradient(y, x)[c] = Σ 1 / divisor · out_gradient(oy, ox)[c]` over the
/// windows (oy, ox) that cover the pixel, in the order of their rows and columns.
#[derive(Clone, Copy)]
pub struct AvgPoolBackwardArgs {
    /// The gradient of each window.
    pub out_gradient: ImagePixels<f32>,
    /// The gradient of each pixel.
    pub in_gradient: ImagePixels<f32>,
    /// The row of `in_gradient`.
    pub y: usize,
    /// The window; None is the whole image.
    pub window: Option<PoolWindow>,
    /// Adds to the values of `in_gradient`, instead of overwriting them.
    pub accumulate: bool,
    /// Channels, from those that the pixels begin with.
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; `channels` values of each pixel are valid for reads, and those of the row
/// of `in_gradient` for reads and writes. The images are those of a pool with `window`.
pub type AvgPoolBackward = unsafe fn(&AvgPoolBackwardArgs);

/// The f32 routine of tier `S`.
///
/// # Safety
/// See [`AvgPoolBackward`].
pub(super) unsafe fn avg_pool_backward<S: Simd>(args: &AvgPoolBackwardArgs) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                // A copy, which no store can change, stays in registers.
                let args = *args;
                let (windows, pixels) = (args.out_gradient, args.in_gradient);
                let oys = over(args.window, args.y, windows.height);
                for x in 0..pixels.width {
                    let oxs = over(args.window, x, windows.width);
                    let pixel = pixels.at(args.y, x);
                    for c in (0..args.channels).step_by(S::LANES) {
                        let n = S::LANES.min(args.channels - c);
                        let mut sum = s.splat(0.0);
                        for oy in oys.clone() {
                            let ys = inside(args.window, oy, pixels.height);
                            for ox in oxs.clone() {
                                let xs = inside(args.window, ox, pixels.width);
                                let scale = 1.0 / divisor(args.window, &ys, &xs) as f32;
                                let gradient = s.load_up_to(n, windows.at(oy, ox).add(c));
                                sum = s.add(sum, s.mul(gradient, s.splat(scale)));
                            }
                        }
                        if args.accumulate {
                            sum = s.add(s.load_up_to(n, pixel.add(c)), sum);
                        }
                        s.store_up_to(n, pixel.add(c), sum);
                    }
                }
            },
        );
    }
}
