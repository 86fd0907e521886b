//! The weights' transform, once, at load.

use super::scheme::Scheme;
use crate::simd::Simd;

/// The weights' transform of a tier: see
/// [`WinogradTransforms::transform_weights`](super::WinogradTransforms::transform_weights).
///
/// # Safety
/// The machine has the tier.
pub(super) type TransformWeights = unsafe fn(ohwi: &[f32], in_channels: usize, u: &mut Vec<f32>);

/// The weights' transform by scheme `T`, compiled for tier `S`: plain loops over the input channels,
/// which the compiler vectorizes. No tier fuses the multiplications with the additions, so all give
/// the same bits.
///
/// # Safety
/// See [`TransformWeights`].
pub(super) unsafe fn transform_weights<S, T, const M: usize, const A: usize>(
    ohwi: &[f32],
    in_channels: usize,
    u: &mut Vec<f32>,
) where
    S: Simd,
    T: Scheme<M, A>,
{
    // SAFETY: the caller guarantees the tier.
    let s = unsafe { S::assume() };
    s.vectorize(
        #[inline(always)]
        || {
            let matrix = ohwi.len() / 9;
            u.clear();
            u.resize(A * A * matrix, 0.0);
            // G g: [row, x, in_channels].
            let mut half = vec![0.0_f64; A * 3 * in_channels];
            for (o, window) in ohwi.chunks_exact(9 * in_channels).enumerate() {
                let w = |y: usize, x: usize| &window[(3 * y + x) * in_channels..][..in_channels];
                for (row, g) in T::G.iter().enumerate() {
                    for x in 0..3 {
                        let half = &mut half[(3 * row + x) * in_channels..][..in_channels];
                        combine(half, g, [w(0, x), w(1, x), w(2, x)], f64::from, |sum| sum);
                    }
                }
                let half =
                    |row: usize, x: usize| &half[(3 * row + x) * in_channels..][..in_channels];
                for row in 0..A {
                    let half = [half(row, 0), half(row, 1), half(row, 2)];
                    for (column, g) in T::G.iter().enumerate() {
                        let start = (row * A + column) * matrix + o * in_channels;
                        let u = &mut u[start..][..in_channels];
                        combine(u, g, half, |v| v, |sum| sum as f32);
                    }
                }
            }
        },
    )
}

/// `out[i] = g[0]·a[i] + g[1]·b[i] + g[2]·c[i]`, in f64.
#[inline(always)]
fn combine<I: Copy, O>(
    out: &mut [O],
    g: &[f64; 3],
    [a, b, c]: [&[I]; 3],
    widen: impl Fn(I) -> f64,
    round: impl Fn(f64) -> O,
) {
    for (out, ((&a, &b), &c)) in out.iter_mut().zip(a.iter().zip(b).zip(c)) {
        *out = round(g[0] * widen(a) + g[1] * widen(b) + g[2] * widen(c));
    }
}
