//! Average pooling, one output pixel at a time, NHWC.

use super::window::WindowPixels;
use crate::simd::Simd;

/// The arguments of an average pool: `out[c] = 1 / divisor · Σ_y Σ_x pixel(y, x)[c]`.
pub struct AvgPoolArgs<T, O> {
    /// The window's pixels that lie inside the image.
    pub pixels: WindowPixels<T>,
    /// The pixels that the mean is taken over, with padding if it counts.
    pub divisor: usize,
    /// In int8, the change of units.
    pub units: Units,
    /// The result's place.
    pub out: *mut O,
    /// Channels of a pixel.
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; each pixel is valid for reading `channels` values and `out` for writing them.
pub type AvgPool<T, O> = unsafe fn(&AvgPoolArgs<T, O>);

/// The units of a pool's results in int8. In f32 they are those of its inputs, and this is not used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Units {
    /// The unit of the inputs, in that of the results.
    pub ratio: f64,
    /// The largest result.
    pub most: f32,
}

impl Units {
    /// In f32.
    pub const SAME: Self = Self {
        ratio: 1.0,
        most: f32::MAX,
    };
}

/// The f32 average pool of tier `S`.
///
/// # Safety
/// See [`AvgPool`].
pub(super) unsafe fn avg_pool<S: Simd>(args: &AvgPoolArgs<f32, f32>) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel and `out`.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let pixels = &args.pixels;
                let scale = s.splat(1.0 / args.divisor as f32);
                for c in (0..args.channels).step_by(S::LANES) {
                    let n = S::LANES.min(args.channels - c);
                    // Row sums first, then their sum: rounding errors grow with the sides of the
                    // image, not with its area.
                    let mut total = s.splat(0.0);
                    for y in 0..pixels.height {
                        let row = pixels.first.add(y * pixels.row_pitch + c);
                        let mut sum = s.splat(0.0);
                        for x in 0..pixels.width {
                            let pixel = row.add(x * pixels.pixel_stride);
                            let value = if n == S::LANES {
                                s.load(pixel)
                            } else {
                                s.load_first(n, pixel)
                            };
                            sum = s.add(sum, value);
                        }
                        total = s.add(total, sum);
                    }
                    let mean = s.mul(total, scale);
                    if n == S::LANES {
                        s.store(args.out.add(c), mean);
                    } else {
                        s.store_first(n, args.out.add(c), mean);
                    }
                }
            },
        );
    }
}
