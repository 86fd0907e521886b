//! The sum of squares, for the norm of all gradients.

use crate::simd::Simd;

/// Independent sums: the same on every tier, so that all of them give the same bits.
const SUMS: usize = 16;

/// The sum of the squares of some values, in f64: at most those of a [`chunk`](super::chunk), so that
/// the sum over an array does not depend on the number of threads. It is finite if, and only if, all
/// values are.
///
/// # Safety
/// The machine has the tier.
pub type SumOfSquares = unsafe fn(&[f32]) -> f64;

/// The routine of tier `S`.
///
/// # Safety
/// See [`SumOfSquares`].
pub(super) unsafe fn sum_of_squares<S: Simd>(values: &[f32]) -> f64 {
    // SAFETY: the caller guarantees the tier.
    let s = unsafe { S::assume() };
    s.vectorize(
        #[inline(always)]
        || {
            let mut sums = [0.0_f64; SUMS];
            let (whole, rest) = values.as_chunks::<SUMS>();
            for values in whole {
                for (sum, &value) in sums.iter_mut().zip(values) {
                    // The square of an f32 is exact in f64.
                    *sum += f64::from(value) * f64::from(value);
                }
            }
            for (sum, &value) in sums.iter_mut().zip(rest) {
                *sum += f64::from(value) * f64::from(value);
            }
            sums.iter().sum()
        },
    )
}
