//! Weights into panels, once, at load.

/// Rows of a panel that are filled at a time: 64 · 32 channels · 4 bytes are 8 KiB.
const K_BLOCK: usize = 64;

/// The number of elements that [`pack`] writes: `panels · NR · (1 + k)`.
pub fn packed_len(out_channels: usize, k: usize, nr: usize) -> usize {
    out_channels.div_ceil(nr) * nr * (1 + k)
}

/// Packs `weights` and `bias` into panels of `nr` output channels.
///
/// - `weights`: the matrices `[out_channels, k_i]`, row-major, that are summed, one for each
///   segment of the convolution; a panel has their k one after the other.
/// - `bias`: `[out_channels]`.
/// - `packed`: `packed_len(out_channels, Σ k_i, nr)` elements, all written; channels that the
///   last panel has too many are zero.
///
/// # Panics
/// Where a length does not fit the others.
pub fn pack(weights: &[(&[f32], usize)], bias: &[f32], nr: usize, packed: &mut [f32]) {
    let out_channels = bias.len();
    let k_total: usize = weights.iter().map(|(_, k)| k).sum();
    assert_eq!(packed.len(), packed_len(out_channels, k_total, nr));
    for (matrix, k) in weights {
        assert_eq!(matrix.len(), out_channels * k);
    }

    for (p, panel) in packed.chunks_exact_mut(nr * (1 + k_total)).enumerate() {
        let first = p * nr;
        let channels = nr.min(out_channels - first);
        let (biases, mut rest) = panel.split_at_mut(nr);
        biases[..channels].copy_from_slice(&bias[first..first + channels]);
        biases[channels..].fill(0.0);
        for (matrix, k) in weights {
            let (rows, next) = rest.split_at_mut(nr * k);
            // A block of k at a time, so that the panel's rows stay in cache while each channel
            // fills its column.
            for (block, rows) in rows.chunks_mut(nr * K_BLOCK).enumerate() {
                let (k0, k_len) = (block * K_BLOCK, rows.len() / nr);
                for c in 0..nr {
                    let column = rows[c..].iter_mut().step_by(nr);
                    if c < channels {
                        let row = &matrix[(first + c) * k + k0..][..k_len];
                        column.zip(row).for_each(|(slot, &w)| *slot = w);
                    } else {
                        column.for_each(|slot| *slot = 0.0);
                    }
                }
            }
            rest = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_hold_bias_then_k_rows_of_channels() {
        // Three channels, k = 2 and k = 1, panels of two.
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let b = [7.0, 8.0, 9.0];
        let bias = [0.1, 0.2, 0.3];
        let mut packed = vec![f32::NAN; packed_len(3, 3, 2)];
        pack(&[(&a, 2), (&b, 1)], &bias, 2, &mut packed);
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
