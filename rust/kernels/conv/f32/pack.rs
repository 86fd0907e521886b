//! Packing of weights into panels, once, at load.

use crate::kernels::view::line_of;
use crate::simd::Simd;

/// Rows of a panel that are filled at a time: a cache line of each channel.
const K_BLOCK: usize = line_of::<f32>();

/// Elements of a panel: NR biases, then NR weights for each k.
pub fn panel_len(k: usize, nr: usize) -> usize {
    nr * (1 + k)
}

/// The number of elements of packed weights: those of `⌈out_channels / NR⌉` panels.
pub fn packed_len(out_channels: usize, k: usize, nr: usize) -> usize {
    out_channels.div_ceil(nr) * panel_len(k, nr)
}

/// The packing of a tier: see [`ConvKernels::pack`](super::ConvKernels::pack).
///
/// # Safety
/// The machine has the tier.
pub(super) type Pack =
    unsafe fn(weights: &[(&[f32], usize)], bias: &[f32], nr: usize, packed: &mut [f32]);

/// The packing, compiled for tier `S`.
///
/// # Safety
/// See [`Pack`].
pub(super) unsafe fn pack<S: Simd>(
    weights: &[(&[f32], usize)],
    bias: &[f32],
    nr: usize,
    packed: &mut [f32],
) {
    let out_channels = bias.len();
    let k_total: usize = weights.iter().map(|(_, k)| k).sum();
    assert_eq!(packed.len(), packed_len(out_channels, k_total, nr));
    for (matrix, k) in weights {
        assert_eq!(matrix.len(), out_channels * k);
    }
    // SAFETY: the caller guarantees the tier.
    let s = unsafe { S::assume() };
    for (p, panel) in packed.chunks_exact_mut(panel_len(k_total, nr)).enumerate() {
        let first = p * nr;
        let channels = nr.min(out_channels - first);
        let (biases, mut rest) = panel.split_at_mut(nr);
        biases[..channels].copy_from_slice(&bias[first..first + channels]);
        biases[channels..].fill(0.0);
        for (matrix, k) in weights {
            let (rows, next) = rest.split_at_mut(nr * k);
            let matrix = &matrix[first * k..(first + channels) * k];
            s.vectorize(
                #[inline(always)]
                || transpose(matrix, *k, nr, rows),
            );
            rest = next;
        }
    }
}

/// `rows[k, c] = matrix[c, k]`, and zero for channels beyond those of `matrix`.
#[inline(always)]
fn transpose(matrix: &[f32], k: usize, nr: usize, rows: &mut [f32]) {
    let channels = matrix.len() / k;
    // A block of k at a time, so that each channel's cache line is used whole while it is there.
    for (block, rows) in rows.chunks_mut(nr * K_BLOCK).enumerate() {
        for (i, row) in rows.chunks_exact_mut(nr).enumerate() {
            let column = &matrix[block * K_BLOCK + i..];
            let (inside, beyond) = row.split_at_mut(channels);
            for (c, slot) in inside.iter_mut().enumerate() {
                *slot = column[c * k];
            }
            beyond.fill(0.0);
        }
    }
}

/// The scaling of a tier: see [`ConvKernels::scale_rows`](super::ConvKernels::scale_rows).
///
/// # Safety
/// The machine has the tier.
pub(super) type ScaleRows = unsafe fn(weights: &mut [f32], scale: &[f64]);

/// The scaling, compiled for tier `S`. Denormal results become zero without the help of the
/// processor's mode.
///
/// # Safety
/// See [`ScaleRows`].
pub(super) unsafe fn scale_rows<S: Simd>(weights: &mut [f32], scale: &[f64]) {
    // SAFETY: the caller guarantees the tier.
    let s = unsafe { S::assume() };
    let k = weights.len() / scale.len();
    s.vectorize(
        #[inline(always)]
        || {
            for (row, scale) in weights.chunks_exact_mut(k).zip(scale) {
                for w in row {
                    let scaled = (f64::from(*w) * scale) as f32;
                    *w = if scaled.abs() < f32::MIN_POSITIVE {
                        0.0
                    } else {
                        scaled
                    };
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::KernelTable;

    #[test]
    fn panels_hold_bias_then_k_rows_of_channels() {
        // Three channels, k = 2 and k = 1, panels of two.
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [7.0, 8.0, 9.0];
        let bias = [0.1, 0.2, 0.3];
        let mut packed = vec![f32::NAN; packed_len(3, 3, 2)];
        for table in KernelTable::available() {
            packed.fill(f32::NAN);
            table
                .f32
                .conv
                .pack(&[(&a, 2), (&b, 1)], &bias, 2, &mut packed);
            assert_eq!(
                packed,
                [
                    [0.1, 0.2, 1.0, 3.0, 2.0, 4.0, 7.0, 8.0],
                    [0.3, 0.0, 5.0, 0.0, 6.0, 0.0, 9.0, 0.0]
                ]
                .concat()
            );
        }
    }

    #[test]
    fn rows_are_scaled_and_denormals_become_zero() {
        for table in KernelTable::available() {
            let mut weights = [1.5, -2.0, 1e-20, 1.0];
            table.f32.conv.scale_rows(&mut weights, &[0.5, 1e-20]);
            assert_eq!(weights, [0.75, -1.0, 0.0, 1e-20]);
        }
    }
}
