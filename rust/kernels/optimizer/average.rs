//! The exponential moving average of weights.

use super::chunks::{chunk, chunks, for_each_vector, lerp};
use crate::simd::Simd;

/// An array of weights and its average, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct AverageTensor {
    /// The average.
    pub average: *mut f32,
    /// The weights.
    pub weights: *const f32,
    /// Elements of each.
    pub len: usize,
}

// SAFETY: the pointers are used only in `run_item`, whose callers promise that no two threads write
// the same place.
unsafe impl Send for AverageTensor {}
// SAFETY: as above.
unsafe impl Sync for AverageTensor {}

/// `average += part · (weights - average)`; `part` is one minus the decay.
///
/// # Safety
/// The machine has the tier; the arrays are valid for reading `len` values, and the average for writing
/// them; they do not overlap.
pub type Average = unsafe fn(part: f32, &AverageTensor);

impl AverageTensor {
    /// Items of work: each chunk.
    pub fn items(&self) -> usize {
        chunks(self.len)
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`Average`]; no other thread uses the arrays, except for other items.
    pub unsafe fn run_item(&self, item: usize, part: f32, average: Average) {
        let chunk = chunk(self.len, item);
        // SAFETY: the chunk lies inside the arrays.
        unsafe {
            average(
                part,
                &Self {
                    average: self.average.add(chunk.start),
                    weights: self.weights.add(chunk.start),
                    len: chunk.len(),
                },
            );
        }
    }
}

/// The routine of tier `S`.
///
/// # Safety
/// See [`Average`].
pub(super) unsafe fn average<S: Simd>(part: f32, tensor: &AverageTensor) {
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
                        let place = tensor.average.add(i);
                        let before = s.load_up_to(n, place);
                        let weights = s.load_up_to(n, tensor.weights.add(i));
                        s.store_up_to(n, place, lerp(s, before, weights, part));
                    }
                },
            );
        },
    );
}
