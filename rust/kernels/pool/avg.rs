//! Average pooling, one output pixel at a time, NHWC.

use super::window::WindowPixels;
use crate::simd::{Simd, Stored};

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

/// The average pool of `M`'s values: sums in f32.
///
/// # Safety
/// See [`AvgPool`].
pub(super) unsafe fn avg_pool<M: Stored>(args: &AvgPoolArgs<M::T, M::T>) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel and `out`.
    unsafe {
        let m = M::assume();
        m.vectorize(
            #[inline(always)]
            || {
                for c in (0..args.channels).step_by(M::S::LANES) {
                    match args.channels - c {
                        rest if rest < M::S::LANES => mean_of(m, args, c, rest),
                        _ => mean_of(m, args, c, M::S::LANES),
                    }
                }
            },
        );
    }
}

/// The means of `n` channels from `c` on.
#[inline(always)]
unsafe fn mean_of<M: Stored>(m: M, args: &AvgPoolArgs<M::T, M::T>, c: usize, n: usize) {
    let (s, pixels) = (m.simd(), &args.pixels);
    // SAFETY: as for `avg_pool`.
    unsafe {
        // Row sums first, then their sum: rounding errors grow with the sides of the image, not with its area.
        let mut total = s.splat(0.0);
        for y in 0..pixels.height {
            let row = pixels.first.add(y * pixels.row_pitch + c);
            let mut sum = s.splat(0.0);
            for x in 0..pixels.width {
                sum = s.add(sum, m.read(n, row.add(x * pixels.pixel_stride)));
            }
            total = s.add(total, sum);
        }
        let scale = s.splat(1.0 / args.divisor as f32);
        m.write(n, args.out.add(c), s.mul(total, scale));
    }
}
