//! AdamW: steps of a size that the gradients' moments give, and a decay of the weights beside them.

use super::chunks::{chunk, chunks, for_each_vector, lerp};
use crate::simd::Simd;

/// The numbers of AdamW. With g the gradient, m and v its moments, w the weight, in step t from 1 on:
///
/// ```text
/// w = w · (1 - lr · weight_decay)
/// m = beta1 · m + (1 - beta1) · g
/// v = beta2 · v + (1 - beta2) · g²
/// w = w - lr · m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate.
    pub lr: f64,
    /// The part of the first moment that a step keeps.
    pub beta1: f64,
    /// The part of the second moment that a step keeps.
    pub beta2: f64,
    /// Keeps steps finite if the second moment is tiny.
    pub eps: f64,
    /// The part of the weights that a step of rate 1 takes away.
    pub weight_decay: f64,
}

/// The factors of one step, computed in f64 and rounded once, as torch does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWArgs {
    /// The factor of the weights: `1 - lr · weight_decay`.
    pub decay: f32,
    /// The factor of the gradients, which clips them.
    pub grad_scale: f32,
    /// The gradient's part of the first moment: `1 - beta1`.
    pub first_part: f32,
    /// The factor of the second moment: `beta2`.
    pub second_kept: f32,
    /// The squared gradient's part of it: `1 - beta2`.
    pub second_part: f32,
    /// The second moment's root is divided by this: `sqrt(1 - beta2^t)`.
    pub second_correction: f32,
    /// Added to the result.
    pub eps: f32,
    /// The factor of the quotient: `-lr / (1 - beta1^t)`.
    pub step_size: f32,
}

impl AdamW {
    /// The factors of step `step`, which counts from 1.
    pub fn args(&self, step: u64, grad_scale: f32) -> AdamWArgs {
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        AdamWArgs {
            decay: (1.0 - self.lr * self.weight_decay) as f32,
            grad_scale,
            first_part: (1.0 - self.beta1) as f32,
            second_kept: self.beta2 as f32,
            second_part: (1.0 - self.beta2) as f32,
            second_correction: correction(self.beta2).sqrt() as f32,
            eps: self.eps as f32,
            step_size: -(self.lr / correction(self.beta1)) as f32,
        }
    }
}

/// An array of weights with all that a step reads and writes, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct AdamWTensor {
    /// The weights.
    pub weights: *mut f32,
    /// Their gradients.
    pub gradients: *const f32,
    /// The gradients' first moments, zeros before the first step.
    pub first: *mut f32,
    /// The gradients' second moments, zeros before the first step.
    pub second: *mut f32,
    /// Elements of each.
    pub len: usize,
}

// SAFETY: the pointers are used only in `run_item`, whose callers promise that no two threads write
// the same place.
unsafe impl Send for AdamWTensor {}
// SAFETY: as above.
unsafe impl Sync for AdamWTensor {}

/// # Safety
/// The machine has the tier; the arrays are valid for reading `len` values, and all but the gradients
/// for writing them; no array overlaps another.
pub type AdamWStep = unsafe fn(&AdamWArgs, &AdamWTensor);

impl AdamWTensor {
    /// Items of work: each chunk.
    pub fn items(&self) -> usize {
        chunks(self.len)
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`AdamWStep`]; no other thread uses the arrays, except for other items.
    pub unsafe fn run_item(&self, item: usize, args: &AdamWArgs, adamw: AdamWStep) {
        let chunk = chunk(self.len, item);
        // SAFETY: the chunk lies inside the arrays.
        unsafe {
            adamw(
                args,
                &Self {
                    weights: self.weights.add(chunk.start),
                    gradients: self.gradients.add(chunk.start),
                    first: self.first.add(chunk.start),
                    second: self.second.add(chunk.start),
                    len: chunk.len(),
                },
            );
        }
    }
}

/// The routine of tier `S`.
///
/// # Safety
/// See [`AdamWStep`].
pub(super) unsafe fn adamw<S: Simd>(args: &AdamWArgs, tensor: &AdamWTensor) {
    // SAFETY: the caller guarantees the tier.
    let s = unsafe { S::assume() };
    s.vectorize(
        #[inline(always)]
        || {
            for_each_vector(
                s,
                tensor.len,
                #[inline(always)]
                |i, n| {
                    // SAFETY: the caller guarantees `len` values, and `n` of them lie behind `i`.
                    unsafe {
                        let [weights, first, second] =
                            [tensor.weights, tensor.first, tensor.second].map(|p| p.add(i));
                        let g = s.load_up_to(n, tensor.gradients.add(i));
                        let g = s.mul(g, s.splat(args.grad_scale));
                        let w = s.mul(s.load_up_to(n, weights), s.splat(args.decay));

                        let m = lerp(s, s.load_up_to(n, first), g, args.first_part);
                        s.store_up_to(n, first, m);

                        let v = s.mul(s.load_up_to(n, second), s.splat(args.second_kept));
                        let v = s.mul_add(s.mul(g, s.splat(args.second_part)), g, v);
                        s.store_up_to(n, second, v);

                        let root = s.div(s.sqrt(v), s.splat(args.second_correction));
                        let divisor = s.add(root, s.splat(args.eps));
                        let step = s.div(s.mul(m, s.splat(args.step_size)), divisor);
                        s.store_up_to(n, weights, s.add(w, step));
                    }
                },
            );
        },
    );
}
