//! Max pooling, one output pixel at a time, NHWC.

use crate::simd::Simd;

/// The arguments of a max pool: `out[c] = max over the window's pixels of pixel[c]`.
pub struct MaxPoolArgs<'a, T> {
    /// The window's pixels that lie inside the image (padding never wins): at least one.
    pub window: &'a [*const T],
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
    // SAFETY: the caller guarantees the tier and `channels` values at each pointer.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let (first, others) = args.window.split_at(1);
                for c in (0..args.channels).step_by(S::LANES) {
                    let n = S::LANES.min(args.channels - c);
                    if n == S::LANES {
                        let mut max = s.load(first[0].add(c));
                        for pixel in others {
                            max = s.max_or_nan(max, s.load(pixel.add(c)));
                        }
                        s.store(args.out.add(c), max);
                    } else {
                        let mut max = s.load_first(n, first[0].add(c));
                        for pixel in others {
                            max = s.max_or_nan(max, s.load_first(n, pixel.add(c)));
                        }
                        s.store_first(n, args.out.add(c), max);
                    }
                }
            },
        );
    }
}
