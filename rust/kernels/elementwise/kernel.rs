//! Batch norm, addition and ReLU of one row, in f32.

use crate::simd::Simd;

/// The arguments of a row: `out = relu(a · scale + shift + b)`.
pub struct ElementwiseArgs<'a> {
    /// The row's first pixel.
    pub a: *const f32,
    /// Elements from a pixel of `a` to the next.
    pub a_stride: usize,
    /// The factors and then the summands of each channel.
    pub norm: Option<(&'a [f32], &'a [f32])>,
    /// The first pixel of the other summand, and its stride.
    pub b: Option<(*const f32, usize)>,
    /// Makes negative results zero.
    pub relu: bool,
    /// The first result's place.
    pub out: *mut f32,
    /// Elements from a pixel of `out` to the next.
    pub out_stride: usize,
    /// Pixels of the row.
    pub pixels: usize,
    /// Channels of a pixel.
    pub channels: usize,
}

/// # Safety
/// The machine has the tier; `channels` values of each pixel are valid for reads, and those of `out` for
/// writes; a norm's slices have as many.
pub type Elementwise = unsafe fn(&ElementwiseArgs);

/// The routine of tier `S`.
///
/// # Safety
/// See [`Elementwise`].
pub(in crate::kernels) unsafe fn elementwise<S: Simd>(args: &ElementwiseArgs) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                for pixel in 0..args.pixels {
                    let a = args.a.add(pixel * args.a_stride);
                    let out = args.out.add(pixel * args.out_stride);
                    for c in 0..args.channels {
                        let mut value = *a.add(c);
                        if let Some((scale, shift)) = args.norm {
                            value = value * scale.get_unchecked(c) + shift.get_unchecked(c);
                        }
                        if let Some((b, stride)) = args.b {
                            value += *b.add(pixel * stride + c);
                        }
                        // This form keeps a NaN.
                        if args.relu && value < 0.0 {
                            value = 0.0;
                        }
                        *out.add(c) = value;
                    }
                }
            },
        );
    }
}
