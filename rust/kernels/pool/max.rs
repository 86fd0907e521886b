//! Max pooling, one output pixel at a time, NHWC.

use super::window::WindowPixels;
use crate::simd::{Simd, Stored};

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

/// The max pool of `M`'s values: NaN if one of them is.
///
/// # Safety
/// See [`MaxPool`].
pub(super) unsafe fn max_pool<M: Stored>(args: &MaxPoolArgs<M::T>) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel and `out`.
    unsafe {
        let m = M::assume();
        m.vectorize(
            #[inline(always)]
            || {
                for c in (0..args.channels).step_by(M::S::LANES) {
                    match args.channels - c {
                        rest if rest < M::S::LANES => max_of(m, args, c, rest),
                        _ => max_of(m, args, c, M::S::LANES),
                    }
                }
            },
        );
    }
}

/// The maxima of `n` channels from `c` on.
#[inline(always)]
unsafe fn max_of<M: Stored>(m: M, args: &MaxPoolArgs<M::T>, c: usize, n: usize) {
    let (s, pixels) = (m.simd(), &args.pixels);
    // SAFETY: as for `max_pool`.
    unsafe {
        let mut max = m.read(n, pixels.first.add(c));
        for y in 0..pixels.height {
            let row = pixels.first.add(y * pixels.row_pitch + c);
            for x in 0..pixels.width {
                max = s.max_or_nan(max, m.read(n, row.add(x * pixels.pixel_stride)));
            }
        }
        m.write(n, args.out.add(c), max);
    }
}
