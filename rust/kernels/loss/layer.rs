//! The loss of a batch: its items of work.

use super::kernel::{CrossEntropy, CrossEntropyArgs, ImageLoss};
use crate::kernels::view::View;

/// The softmax and cross-entropy of a batch, laid out by the plan.
#[derive(Clone, Debug)]
pub struct CrossEntropyLayer {
    /// The logits' place, `[batch, 1, 1, classes]`.
    pub logits: View,
    /// The place of the gradient by the logits, of the same shape, which may be that of the logits;
    /// None computes only the losses.
    pub gradient: Option<View>,
}

impl CrossEntropyLayer {
    /// Items of work: each image.
    pub fn items(&self) -> usize {
        self.logits.batch
    }

    /// Does one item.
    ///
    /// - `targets`: the share of each class in each label, `[batch, classes]`.
    /// - `factor`: the factor of the gradient: one over the images that the loss is averaged over.
    /// - `losses`: the place of the losses, `[batch]`; the item's is overwritten.
    ///
    /// # Panics
    /// If there are fewer targets, or no classes.
    ///
    /// # Safety
    /// The machine has the tier of `cross_entropy`; the views lie inside `arena` and do not overlap,
    /// unless they are the same; `losses` is valid for writing `batch` values; all threads are past the
    /// steps before, and each item is done by one thread.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        targets: &[f32],
        factor: f64,
        losses: *mut ImageLoss,
        cross_entropy: CrossEntropy,
    ) {
        let classes = self.logits.channels;
        assert!(classes > 0);
        // SAFETY: the views lie inside the arena and have `classes` channels; `losses` has a value for
        // each image; the caller guarantees the tier.
        unsafe {
            let first = |view: &View| view.pixel_ptr::<f32>(arena, item, 0, 0);
            *losses.add(item) = cross_entropy(&CrossEntropyArgs {
                logits: first(&self.logits),
                targets: &targets[item * classes..][..classes],
                factor,
                gradient: self.gradient.as_ref().map(first),
            });
        }
    }
}
