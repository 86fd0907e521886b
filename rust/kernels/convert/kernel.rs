//! One pixel in another type. The loops are plain; the compiler makes vectors of them.

use half::bf16;

use crate::dtype::Real;
use crate::simd::{Activation, IntDot, MOST};

/// The arguments of a pixel: `out = input · factor`, rounded.
pub struct ConvertArgs<T, O> {
    /// The pixel.
    pub input: *const T,
    /// The result's place.
    pub out: *mut O,
    /// The unit of the whole numbers; its reciprocal if they are the results.
    pub factor: f32,
    /// Channels.
    pub channels: usize,
}

/// # Safety
/// The machine has the instructions; `channels` values of `input` are valid for reads, and those of `out` for writes.
pub type Convert<T, O> = unsafe fn(&ConvertArgs<T, O>);

/// The routines for activations of `A`. Only a proof that this machine has the instructions makes them.
#[derive(Clone, Copy)]
pub struct ConvertKernels<A> {
    /// From whole numbers.
    pub to_bf16: Convert<A, bf16>,
    /// To whole numbers from 0 to 255.
    pub from_bf16: Convert<bf16, A>,
}

impl<A: Activation> ConvertKernels<A> {
    /// The kernels beside those of `D`.
    pub(in crate::kernels) fn new<D: IntDot<A = A>>(_proof: D) -> Self {
        Self {
            to_bf16: to_bf16::<D>,
            from_bf16: from_bf16::<D>,
        }
    }
}

/// # Safety
/// See [`Convert`].
unsafe fn to_bf16<D: IntDot>(args: &ConvertArgs<D::A, bf16>) {
    // SAFETY: the caller guarantees the instructions and the values.
    unsafe {
        D::assume().vectorize(
            #[inline(always)]
            || {
                let input = std::slice::from_raw_parts(args.input, args.channels);
                let out = std::slice::from_raw_parts_mut(args.out, args.channels);
                for (out, &value) in out.iter_mut().zip(input) {
                    let whole: i32 = value.into();
                    *out = bf16::rounded(whole as f32 * args.factor);
                }
            },
        );
    }
}

/// # Safety
/// See [`Convert`].
unsafe fn from_bf16<D: IntDot>(args: &ConvertArgs<bf16, D::A>) {
    // SAFETY: the caller guarantees the instructions and the values.
    unsafe {
        D::assume().vectorize(
            #[inline(always)]
            || {
                let input = std::slice::from_raw_parts(args.input, args.channels);
                let out = std::slice::from_raw_parts_mut(args.out, args.channels);
                for (out, &value) in out.iter_mut().zip(input) {
                    let scaled = (value.to_f32() * args.factor).clamp(0.0, MOST);
                    // A NaN becomes 0.
                    *out = D::A::of(scaled.round_ties_even());
                }
            },
        );
    }
}
