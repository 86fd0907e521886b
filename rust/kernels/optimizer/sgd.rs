//! Stochastic gradient descent, with momentum.

use super::chunks::{chunk, chunks, for_each_vector};
use crate::simd::Simd;

/// The numbers of a step. With g the gradient, w the weight and v its momentum:
///
/// ```text
/// g = gradient · grad_scale + weight_decay · w
/// v = g in the first step, else momentum · v + g
/// w = w - lr · (g + momentum · v if nesterov, else v)
/// ```
///
/// Without momentum, g stands in the place of v.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdArgs {
    /// The learning rate.
    pub lr: f32,
    /// The part of the momentum that a step keeps; with zero there is none.
    pub momentum: f32,
    /// Looks one step of momentum ahead, as Nesterov does.
    pub nesterov: bool,
    /// The part of the weights that is added to their gradients.
    pub weight_decay: f32,
    /// The factor of the gradients, which clips them.
    pub grad_scale: f32,
    /// Sets the momentum to the gradient, and does not read it.
    pub first_step: bool,
}

/// An array of weights with all that a step reads and writes, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct SgdTensor {
    /// The weights.
    pub weights: *mut f32,
    /// Their gradients.
    pub gradients: *const f32,
    /// Their momentum; not read or written without momentum.
    pub momentum: *mut f32,
    /// Elements of each.
    pub len: usize,
}

// SAFETY: the pointers are used only in `run_item`, whose callers promise that no two threads write
// the same place.
unsafe impl Send for SgdTensor {}
// SAFETY: as above.
unsafe impl Sync for SgdTensor {}

/// # Safety
/// The machine has the tier; the arrays are valid for reading `len` values, and the weights and the
/// momentum, if it is used, for writing them; no array overlaps another.
pub type Sgd = unsafe fn(&SgdArgs, &SgdTensor);

impl SgdTensor {
    /// Items of work: each chunk.
    pub fn items(&self) -> usize {
        chunks(self.len)
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`Sgd`]; no other thread uses the arrays, except for other items.
    pub unsafe fn run_item(&self, item: usize, args: &SgdArgs, sgd: Sgd) {
        let chunk = chunk(self.len, item);
        // SAFETY: the chunk lies inside the arrays. The momentum may be none, so its pointer wraps.
        unsafe {
            sgd(
                args,
                &Self {
                    weights: self.weights.add(chunk.start),
                    gradients: self.gradients.add(chunk.start),
                    momentum: self.momentum.wrapping_add(chunk.start),
                    len: chunk.len(),
                },
            );
        }
    }
}

/// The routine of tier `S`.
///
/// # Safety
/// See [`Sgd`].
pub(super) unsafe fn sgd<S: Simd>(args: &SgdArgs, tensor: &SgdTensor) {
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
                        let weights = tensor.weights.add(i);
                        let w = s.load_up_to(n, weights);
                        let g = s.load_up_to(n, tensor.gradients.add(i));
                        let mut g = s.mul(g, s.splat(args.grad_scale));
                        if args.weight_decay != 0.0 {
                            g = s.mul_add(w, s.splat(args.weight_decay), g);
                        }
                        if args.momentum != 0.0 {
                            let momentum = s.splat(args.momentum);
                            let place = tensor.momentum.add(i);
                            let mut v = g;
                            if !args.first_step {
                                // Two roundings, as torch has `mul_` and then `add_`.
                                v = s.add(s.mul(s.load_up_to(n, place), momentum), g);
                            }
                            s.store_up_to(n, place, v);
                            g = if args.nesterov {
                                s.mul_add(v, momentum, g)
                            } else {
                                v
                            };
                        }
                        s.store_up_to(n, weights, s.mul_add(g, s.splat(-args.lr), w));
                    }
                },
            );
        },
    );
}
