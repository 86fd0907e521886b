//! Max pooling, one output pixel at a time, NHWC.

use super::window::WindowPixels;
use crate::simd::Simd;

/// The arguments of a max pool: `out[c] = max over the window's pixels of pixel[c]`.
pub struct MaxPoolArgs<T> {
    /// The window's pixels that lie inside the image (padding never wins): at least one.
    pub pixels: WindowPixels<T>,
    /// The result's place.
    pub out: *mut T,
    /// Channels of a pixel.
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; each pixel of the window is valid for reading `channels` values and `out`
/// for writing them.
pub type MaxPool<T> = unsafe fn(&MaxPoolArgs<T>);

/// The f32 max pool of tier `S`.
///
/// # Safety
/// See [`MaxPool`].
pub(super) unsafe fn max_pool<S: Simd>(args: &MaxPoolArgs<f32>) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel and `out`.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let pixels = &args.pixels;
                for c in (0..args.channels).step_by(S::LANES) {
                    let n = S::LANES.min(args.channels - c);
                    if n == S::LANES {
                        let mut max = s.load(pixels.first.add(c));
                        for y in 0..pixels.height {
                            let row = pixels.first.add(y * pixels.row_pitch + c);
                            for x in 0..pixels.width {
                                let value = s.load(row.add(x * pixels.pixel_stride));
                                max = s.max_or_nan(max, value);
                            }
                        }
                        s.store(args.out.add(c), max);
                    } else {
                        let mut max = s.load_first(n, pixels.first.add(c));
                        for y in 0..pixels.height {
                            let row = pixels.first.add(y * pixels.row_pitch + c);
                            for x in 0..pixels.width {
                                let value = s.load_first(n, row.add(x * pixels.pixel_stride));
                                max = s.max_or_nan(max, value);
                            }
                        }
                        s.store_first(n, args.out.add(c), max);
                    }
                }
            },
        );
    }
}
