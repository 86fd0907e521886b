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
//! All of it in f64, rounded to f32 once at the end. (torch.nn.utils.fusion does the same in f32.)

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
    /// ε, added to the variance.
    pub epsilon: f64,
}

/// A batch norm's effect on the convolution before it, in f64: biases of convolutions that are
/// summed are added before they are rounded.
pub struct Folded {
    /// The factor of each output channel's weights.
    pub scale: Vec<f64>,
    /// The bias of each output channel.
    pub bias: Vec<f64>,
}

impl BatchNorm {
    /// The scale and bias of the formula above.
    pub fn fold(&self) -> Folded {
        let scale: Vec<f64> = self
            .scale
            .iter()
            .zip(&self.variance)
            .map(|(&scale, &variance)| {
                f64::from(scale) / (f64::from(variance) + self.epsilon).sqrt()
            })
            .collect();
        let bias = scale
            .iter()
            .zip(self.shift.iter().zip(&self.mean))
            .map(|(scale, (&shift, &mean))| f64::from(shift) - f64::from(mean) * scale)
            .collect();
        Folded { scale, bias }
    }
}

impl Folded {
    /// True if f32 can hold all scales and biases.
    pub fn is_finite(&self) -> bool {
        let mut values = self.scale.iter().chain(&self.bias);
        values.all(|&value| (value as f32).is_finite())
    }

    /// Writes the scales, and behind them the biases.
    pub fn write(&self, out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(self.scale.iter().chain(&self.bias)) {
            *out = value as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_and_biases_beyond_f32_are_not_finite() {
        let folded = |scale, bias| Folded {
            scale: vec![1.0, scale],
            bias: vec![bias, 0.0],
        };
        let largest = f64::from(f32::MAX);
        assert!(folded(largest, -largest).is_finite());
        assert!(!folded(2.0 * largest, 0.0).is_finite());
        assert!(!folded(1.0, -2.0 * largest).is_finite());
    }

    #[test]
    fn folding_equals_norm_after_product() {
        let weights = [1.5_f32, -2.0, 0.25, 4.0];
        let norm = BatchNorm {
            scale: vec![0.5, -3.0],
            shift: vec![0.1, 0.2],
            mean: vec![1.0, -2.0],
            variance: vec![4.0, 0.25],
            epsilon: 1e-3,
        };
        let x = [0.75, -1.25];
        let mut folded = weights;
        let Folded { scale, bias } = norm.fold();
        for (w, scale) in folded
            .iter_mut()
            .zip([scale[0], scale[0], scale[1], scale[1]])
        {
            *w = (f64::from(*w) * scale) as f32;
        }
        for o in 0..2 {
            let dot = |w: &[f32]| f64::from(w[2 * o]) * x[0] + f64::from(w[2 * o + 1]) * x[1];
            let direct = (dot(&weights) - f64::from(norm.mean[o]))
                / (f64::from(norm.variance[o]) + norm.epsilon).sqrt()
                * f64::from(norm.scale[o])
                + f64::from(norm.shift[o]);
            assert!((dot(&folded) + bias[o] - direct).abs() < 1e-6 * direct.abs());
        }
    }
}
