//! Pooling layers: their items of work.

use super::avg::{AvgPool, AvgPoolArgs, Units};
use super::max::{MaxPool, MaxPoolArgs};
use super::window::{WindowPixels, divisor, inside};
use crate::dtype::Element;
use crate::kernels::view::View;
use crate::shape::PoolWindow;

/// A max pool, laid out by the plan.
#[derive(Clone, Debug)]
pub struct MaxPoolLayer {
    /// The input's place.
    pub input: View,
    /// The output's place; its border is zeroed too.
    pub out: View,
    /// The window; None is the whole image.
    pub window: Option<PoolWindow>,
}

impl MaxPoolLayer {
    /// Items of work: each output row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `max_pool`; the views are tensors of `T`, lie inside `arena` and
    /// do not overlap; all threads are past the steps before, and each item is done by one thread.
    pub unsafe fn run_item<T: Element>(&self, item: usize, arena: *mut u8, max_pool: MaxPool<T>) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, oy) = (item / self.out.height, item % self.out.height);
        let ys = inside(self.window, oy, self.input.height);
        for ox in 0..self.out.width {
            let xs = inside(self.window, ox, self.input.width);
            // SAFETY: the views lie inside the arena; the caller guarantees the tier.
            unsafe {
                max_pool(&MaxPoolArgs {
                    pixels: WindowPixels::new(&self.input, arena, n, [ys.clone(), xs]),
                    out: self.out.pixel_ptr(arena, n, oy, ox),
                    channels: self.out.stored_channels(),
                });
            }
        }
    }
}

/// An average pool, laid out by the plan. If the output has more channels than the input, the others
/// are zeros.
#[derive(Clone, Debug)]
pub struct AvgPoolLayer {
    /// The input's place.
    pub input: View,
    /// The output's place; its border is zeroed too.
    pub out: View,
    /// The window; None is the whole image.
    pub window: Option<PoolWindow>,
    /// The channel of the output that the input's first one goes to.
    pub first_channel: usize,
    /// In int8, the change of units.
    pub units: Units,
}

impl AvgPoolLayer {
    /// True if there are channels of zeros around those of the input.
    pub fn pads(&self) -> bool {
        self.out.channels > self.input.channels
    }

    /// Items of work: each output row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`MaxPoolLayer::run_item`], with the tier of `avg_pool`.
    pub unsafe fn run_item<T: Element, O: Element>(
        &self,
        item: usize,
        arena: *mut u8,
        avg_pool: AvgPool<T, O>,
    ) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, oy) = (item / self.out.height, item % self.out.height);
        let channels = self.input.channels;
        let after = self.first_channel + channels;
        let stored = self.out.stored_channels();
        assert!(after <= stored);
        let ys = inside(self.window, oy, self.input.height);
        for ox in 0..self.out.width {
            let xs = inside(self.window, ox, self.input.width);
            let divisor = divisor(self.window, &ys, &xs);
            // SAFETY: the views lie inside the arena, and `out` has `first_channel + channels`
            // channels or more; the caller guarantees the tier.
            unsafe {
                let out: *mut O = self.out.pixel_ptr(arena, n, oy, ox);
                avg_pool(&AvgPoolArgs {
                    pixels: WindowPixels::new(&self.input, arena, n, [ys.clone(), xs]),
                    divisor,
                    units: self.units,
                    out: out.add(self.first_channel),
                    channels,
                });
                out.write_bytes(0, self.first_channel);
                out.add(after).write_bytes(0, stored - after);
            }
        }
    }
}
