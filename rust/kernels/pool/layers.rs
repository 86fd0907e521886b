//! Pooling layers: their items of work.

use super::avg::{AvgPool, AvgPoolArgs};
use super::max::{MaxPool, MaxPoolArgs};
use crate::dtype::Element;
use crate::kernels::view::View;
use crate::shape::{AvgWindow, MAX_POOL};

/// A 3x3 max pool with stride 2 and padding 1, laid out by the plan.
#[derive(Clone, Debug)]
pub struct MaxPoolLayer {
    /// The input's place.
    pub input: View,
    /// The output's place; its border is zeroed too.
    pub out: View,
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
        let ys = MAX_POOL.inside(oy, self.input.height);
        for ox in 0..self.out.width {
            let mut window = [std::ptr::null(); MAX_POOL.kernel * MAX_POOL.kernel];
            let mut pixels = 0;
            for y in ys.clone() {
                for x in MAX_POOL.inside(ox, self.input.width) {
                    // SAFETY: a pixel of the input, inside the arena.
                    window[pixels] =
                        unsafe { self.input.pixel_ptr::<T>(arena, n, y, x) }.cast_const();
                    pixels += 1;
                }
            }
            // SAFETY: as above; the caller guarantees the tier.
            unsafe {
                max_pool(&MaxPoolArgs {
                    window: &window[..pixels],
                    out: self.out.pixel_ptr(arena, n, oy, ox),
                    channels: self.out.channels,
                });
            }
        }
    }
}

/// An average pool, laid out by the plan.
#[derive(Clone, Debug)]
pub struct AvgPoolLayer {
    /// The input's place.
    pub input: View,
    /// The output's place; its border is zeroed too.
    pub out: View,
    /// The window; None is the whole image.
    pub window: Option<AvgWindow>,
}

impl AvgPoolLayer {
    /// Items of work: each output row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`MaxPoolLayer::run_item`], with the tier of `avg_pool`.
    pub unsafe fn run_item<T: Element>(&self, item: usize, arena: *mut u8, avg_pool: AvgPool<T>) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, oy) = (item / self.out.height, item % self.out.height);
        let inside = |o: usize, size: usize| match self.window {
            Some(window) => window.window().inside(o, size),
            None => 0..size,
        };
        let ys = inside(oy, self.input.height);
        for ox in 0..self.out.width {
            let xs = inside(ox, self.input.width);
            let divisor = match self.window {
                Some(window) if window.count_include_pad => window.kernel * window.kernel,
                _ => ys.len() * xs.len(),
            };
            // SAFETY: the views lie inside the arena; the caller guarantees the tier.
            unsafe {
                avg_pool(&AvgPoolArgs {
                    input: self.input.pixel_ptr(arena, n, ys.start, xs.start),
                    height: ys.len(),
                    width: xs.len(),
                    row_pitch: self.input.row_pitch,
                    pixel_stride: self.input.pixel_stride,
                    divisor,
                    out: self.out.pixel_ptr(arena, n, oy, ox),
                    channels: self.out.channels,
                });
            }
        }
    }
}
