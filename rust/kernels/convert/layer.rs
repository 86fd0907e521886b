//! Changes of type: their items of work.

use super::kernel::{Convert, ConvertArgs};
use crate::dtype::Element;
use crate::kernels::view::View;

/// A change of type, laid out by the plan.
#[derive(Clone, Debug)]
pub struct ConvertLayer {
    /// The input's place.
    pub input: View,
    /// The output's place; its border is zeroed too.
    pub out: View,
    /// See [`ConvertArgs::factor`].
    pub factor: f32,
}

impl ConvertLayer {
    /// Items of work: each row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the instructions of `convert`; the views are tensors of `T` and `O`, lie inside `arena` and do
    /// not overlap; all threads are past the steps before, and each item is done by one thread.
    pub unsafe fn run_item<T: Element, O: Element>(
        &self,
        item: usize,
        arena: *mut u8,
        convert: Convert<T, O>,
    ) {
        let rows = self.out.batch * self.out.height;
        if let Some(image) = item.checked_sub(rows) {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(image, arena) };
            return;
        }
        let (n, y) = (item / self.out.height, item % self.out.height);
        let channels = self.out.channels;
        for x in 0..self.out.width {
            // SAFETY: the views lie inside the arena; the caller guarantees the instructions.
            unsafe {
                let out: *mut O = self.out.pixel_ptr(arena, n, y, x);
                convert(&ConvertArgs {
                    input: self.input.pixel_ptr(arena, n, y, x),
                    out,
                    factor: self.factor,
                    channels,
                });
                out.add(channels)
                    .write_bytes(0, self.out.stored_channels() - channels);
            }
        }
    }
}
