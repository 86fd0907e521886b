//! Softmax and cross-entropy of one image.

use crate::simd::Simd;

/// The arguments of an image: the loss is `-Σ_c target_c · log softmax(logits)_c`, its gradient by
/// logit c `factor · (softmax(logits)_c · Σ target - target_c)`.
pub struct CrossEntropyArgs<'a> {
    /// The logits, `[classes]`.
    pub logits: *const f32,
    /// The share of each class in the label, `[classes]`: mostly a single one; others with label
    /// smoothing or mixed images. With weights of classes their sum is not one.
    pub targets: &'a [f32],
    /// The factor of the gradient: one over the images that the loss is averaged over.
    pub factor: f64,
    /// The gradient's place, overwritten, `[classes]`; it may be that of the logits.
    pub gradient: Option<*mut f32>,
}

/// An image's loss, and the class that the network sees in it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ImageLoss {
    /// The loss; infinite or NaN if one of the logits is.
    pub loss: f64,
    /// The largest logit, the first of equals. A NaN counts as the largest, as in torch.
    pub best: usize,
}

/// # Safety
/// The machine has the tier; `logits` is valid for reading as many values as there are targets, and
/// `gradient` for writing them; there is at least one.
pub type CrossEntropy = unsafe fn(&CrossEntropyArgs) -> ImageLoss;

/// The routines of losses, for one tier. Only a proof that this machine has the tier makes them.
#[derive(Clone, Copy)]
pub struct LossKernels {
    /// The loss of an image.
    pub cross_entropy: CrossEntropy,
}

impl LossKernels {
    /// The kernels of tier `S`.
    pub(in crate::kernels) fn new<S: Simd>(_proof: S) -> Self {
        Self {
            cross_entropy: cross_entropy::<S>,
        }
    }
}

/// The routine of tier `S`. All tiers give the same bits: sums are in f64, in the order of the classes.
///
/// # Safety
/// See [`CrossEntropy`].
unsafe fn cross_entropy<S: Simd>(args: &CrossEntropyArgs) -> ImageLoss {
    // SAFETY: the caller guarantees the tier and `targets.len()` values at `logits` and `gradient`.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let classes = args.targets.len();
                let logit = |c: usize| f64::from(*args.logits.add(c));
                let mut best = 0;
                for c in 1..classes {
                    let (value, max) = (logit(c), logit(best));
                    if value > max || (value.is_nan() && !max.is_nan()) {
                        best = c;
                    }
                }
                // Relative to the largest, so that no exponential overflows.
                let max = logit(best);
                let (mut sum, mut others) = (0.0, 0.0);
                for c in 0..classes {
                    let term = (logit(c) - max).exp();
                    sum += term;
                    if c != best {
                        others += term;
                    }
                }
                // The largest itself adds 1: this form is exact if the others are far below it.
                let log_sum = others.ln_1p();
                let mut loss = 0.0;
                let mut total = 0.0;
                for (c, &target) in args.targets.iter().enumerate() {
                    let target = f64::from(target);
                    loss += target * (log_sum - (logit(c) - max));
                    total += target;
                }
                if let Some(gradient) = args.gradient {
                    for (c, &target) in args.targets.iter().enumerate() {
                        let probability = (logit(c) - max).exp() / sum;
                        let value = probability * total - f64::from(target);
                        *gradient.add(c) = (args.factor * value) as f32;
                    }
                }
                ImageLoss { loss, best }
            },
        )
    }
}
