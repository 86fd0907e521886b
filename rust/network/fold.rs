//! Batch norm, folded into the convolution before it.
//!
//! At inference batch norm is a scale and a shift of each channel,
//! `y = (x - mean) / sqrt(variance + ε) · γ + β`, and a convolution before it can do both:
//!
//! ```text
//! scale = γ / sqrt(variance + ε)        weights'[o, ..] = weights[o, ..] · scale[o]
//!                                       bias'[o]        = β[o] - mean[o] · scale[o]
//! ```
//!
//! All of it in f64, rounded to f32 once at the end (as torch.nn.utils.fusion does in f32).

/// torch's default: what is added to the variance.
pub const EPSILON: f64 = 1e-5;

/// A batch norm's vectors, each `[channels]`.
pub struct BatchNorm {
    /// γ, `weight` in the file.
    pub scale: Vec<f32>,
    /// β, `bias` in the file.
    pub shift: Vec<f32>,
    /// `running_mean` in the file.
    pub mean: Vec<f32>,
    /// `running_var` in the file.
    pub variance: Vec<f32>,
}

/// Scales `weights` (`[channels, k]`) in place and returns the bias, still in f64: biases of
/// convolutions that are summed are added before they are rounded.
pub fn fold(weights: &mut [f32], norm: &BatchNorm) -> Vec<f64> {
    let k = weights.len() / norm.scale.len();
    let mut bias = Vec::with_capacity(norm.scale.len());
    for (o, row) in weights.chunks_exact_mut(k).enumerate() {
        let scale = f64::from(norm.scale[o]) / (f64::from(norm.variance[o]) + EPSILON).sqrt();
        for w in row {
            *w = flush((f64::from(*w) * scale) as f32);
        }
        bias.push(f64::from(norm.shift[o]) - f64::from(norm.mean[o]) * scale);
    }
    bias
}

/// A denormal is no weight: it only slows the arithmetic down.
fn flush(w: f32) -> f32 {
    if w.abs() < f32::MIN_POSITIVE { 0.0 } else { w }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_equals_norm_after_product() {
        let weights = [1.5_f32, -2.0, 0.25, 4.0];
        let norm = BatchNorm {
            scale: vec![0.5, -3.0],
            shift: vec![0.1, 0.2],
            mean: vec![1.0, -2.0],
            variance: vec![4.0, 0.25],
        };
        let x = [0.75, -1.25];
        let mut folded = weights;
        let bias = fold(&mut folded, &norm);
        for o in 0..2 {
            let dot = |w: &[f32]| f64::from(w[2 * o]) * x[0] + f64::from(w[2 * o + 1]) * x[1];
            let direct = (dot(&weights) - f64::from(norm.mean[o]))
                / (f64::from(norm.variance[o]) + EPSILON).sqrt()
                * f64::from(norm.scale[o])
                + f64::from(norm.shift[o]);
            assert!((dot(&folded) + bias[o] - direct).abs() < 1e-6 * direct.abs());
        }
    }

    #[test]
    fn denormal_weights_become_zero() {
        let norm = BatchNorm {
            scale: vec![1e-20],
            shift: vec![0.0],
            mean: vec![0.0],
            variance: vec![1.0],
        };
        let mut weights = [1e-20, 1.0];
        fold(&mut weights, &norm);
        assert_eq!(weights[0], 0.0);
        assert!(weights[1] > 0.0);
    }
}
