//! Batch norm, addition and ReLU of one row, computed in f32.

use crate::dtype::Real;
use crate::simd::Stored;

/// The arguments of a row: `out = relu(a · scale + shift + b)`.
pub struct ElementwiseArgs<'a, T> {
    /// The row's first pixel.
    pub a: *const T,
    /// Elements from a pixel of `a` to the next.
    pub a_stride: usize,
    /// The factors and then the summands of each channel.
    pub norm: Option<(&'a [f32], &'a [f32])>,
    /// The first pixel of the other summand, and its stride.
    pub b: Option<(*const T, usize)>,
    /// Makes negative results zero.
    pub relu: bool,
    /// The first result's place.
    pub out: *mut T,
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
pub type Elementwise<T> = unsafe fn(&ElementwiseArgs<T>);

/// The routine for the values of `M`.
///
/// # Safety
/// See [`Elementwise`].
pub(in crate::kernels) unsafe fn elementwise<M: Stored<T: Real>>(args: &ElementwiseArgs<M::T>) {
    // SAFETY: the caller guarantees the tier and `channels` values at each pixel.
    unsafe {
        let m = M::assume();
        m.vectorize(
            #[inline(always)]
            || {
                for pixel in 0..args.pixels {
                    let a = args.a.add(pixel * args.a_stride);
                    let out = args.out.add(pixel * args.out_stride);
                    for c in 0..args.channels {
                        let mut value = (*a.add(c)).into();
                        if let Some((scale, shift)) = args.norm {
                            value = value * scale.get_unchecked(c) + shift.get_unchecked(c);
                        }
                        if let Some((b, stride)) = args.b {
                            value += (*b.add(pixel * stride + c)).into();
                        }
                        // This form keeps a NaN.
                        if args.relu && value < 0.0 {
                            value = 0.0;
                        }
                        *out.add(c) = M::T::rounded(value);
                    }
                }
            },
        );
    }
}
