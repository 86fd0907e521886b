//! Elementwise layers: their items of work.

use super::kernel::{Elementwise, ElementwiseArgs};
use crate::dtype::Element;
use crate::kernels::view::View;

/// An elementwise layer, laid out by the plan.
#[derive(Clone, Debug)]
pub struct ElementwiseLayer {
    /// The first input.
    pub a: View,
    /// The start of a batch norm's scales in the network's weights; its shifts follow.
    pub norm_bytes: Option<usize>,
    /// Added to it.
    pub b: Option<View>,
    /// Makes negative results zero.
    pub relu: bool,
    /// The output's place; its border is zeroed too.
    pub out: View,
}

impl ElementwiseLayer {
    /// Items of work: each row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `elementwise`; the views are tensors of `T`, lie inside `arena` and do not overlap; all
    /// threads are past the steps before, and each item is done by one thread.
    pub unsafe fn run_item<T: Element>(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
        elementwise: Elementwise<T>,
    ) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, y) = (item / self.out.height, item % self.out.height);
        let channels = self.out.channels;
        let norm = self.norm_bytes.map(|start| {
            let both = &weights[start..][..2 * channels * size_of::<f32>()];
            bytemuck::cast_slice(both).split_at(channels)
        });
        // SAFETY: the views lie inside the arena; the caller guarantees the tier.
        unsafe {
            let first = |view: &View| view.pixel_ptr::<T>(arena, n, y, 0);
            elementwise(&ElementwiseArgs {
                a: first(&self.a),
                a_stride: self.a.pixel_stride,
                norm,
                b: self.b.map(|b| (first(&b).cast_const(), b.pixel_stride)),
                relu: self.relu,
                out: first(&self.out),
                out_stride: self.out.pixel_stride,
                pixels: self.out.width,
                channels,
            });
            // Nothing is stored after an even number of channels.
            for c in channels..self.out.stored_channels() {
                for x in 0..self.out.width {
                    *self.out.pixel_ptr::<T>(arena, n, y, x).add(c) = T::zeroed();
                }
            }
        }
    }
}
