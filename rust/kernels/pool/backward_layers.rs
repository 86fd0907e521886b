//! Gradients of pooling layers: their items of work.

use super::avg_backward::{AvgPoolBackward, AvgPoolBackwardArgs};
use super::image::ImagePixels;
use super::max_backward::{MaxPoolBackward, MaxPoolBackwardArgs};
use crate::kernels::view::{View, line_of};
use crate::shape::PoolWindow;

/// The places of a batch norm's factors and summands in the arena: two arrays of f32, a value for each
/// channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormBytes {
    /// The first factor.
    pub scale_bytes: usize,
    /// The first summand.
    pub shift_bytes: usize,
}

/// The gradient of a max pool, laid out by the plan.
#[derive(Clone, Debug)]
pub struct MaxPoolGradient {
    /// The place of the forward's input, or of what `norm` makes it from.
    pub input: View,
    /// The batch norm and ReLU between `input` and the pool, if their result is not in memory:
    /// `max(0, input · scale + shift)`.
    pub norm: Option<NormBytes>,
    /// The place of the output's gradient.
    pub out_gradient: View,
    /// The place of the input's gradient. Every pixel is overwritten; a border is left as it is.
    pub in_gradient: View,
    /// The window; None is the whole image.
    pub window: Option<PoolWindow>,
}

impl MaxPoolGradient {
    /// Channels of an item: those of four cache lines, which are fetched together.
    const CHANNELS: usize = 4 * line_of::<f32>();

    fn blocks(&self) -> usize {
        self.in_gradient.channels.div_ceil(Self::CHANNELS)
    }

    /// Items of work: each block of channels of each image.
    pub fn items(&self) -> usize {
        self.in_gradient.batch * self.blocks()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `backward`; the views and the norm's arrays lie inside `arena` and do
    /// not overlap; all threads are past the steps before, and each item is done by one thread.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, backward: MaxPoolBackward) {
        let (n, block) = (item / self.blocks(), item % self.blocks());
        let first = block * Self::CHANNELS;
        // SAFETY: the views and arrays lie inside the arena and have the channel; the caller guarantees
        // the tier.
        unsafe {
            let array = |start: usize| arena.add(start).cast::<f32>().add(first).cast_const();
            backward(&MaxPoolBackwardArgs {
                input: ImagePixels::new(&self.input, arena, n, first),
                norm: self
                    .norm
                    .map(|norm| [norm.scale_bytes, norm.shift_bytes].map(array)),
                out_gradient: ImagePixels::new(&self.out_gradient, arena, n, first),
                in_gradient: ImagePixels::new(&self.in_gradient, arena, n, first),
                window: self.window,
                channels: Self::CHANNELS.min(self.in_gradient.channels - first),
            });
        }
    }
}

/// The gradient of an average pool, laid out by the plan.
#[derive(Clone, Debug)]
pub struct AvgPoolGradient {
    /// The place of the output's gradient.
    pub out_gradient: View,
    /// The place of the input's gradient; a border is left as it is.
    pub in_gradient: View,
    /// The window; None is the whole image.
    pub window: Option<PoolWindow>,
    /// The channel of the output that the input's first one goes to.
    pub first_channel: usize,
    /// Adds to the values of `in_gradient`, instead of overwriting every pixel.
    pub accumulate: bool,
}

impl AvgPoolGradient {
    /// Items of work: each row of the input.
    pub fn items(&self) -> usize {
        self.in_gradient.batch * self.in_gradient.height
    }

    /// Does one item.
    ///
    /// # Safety
    /// The machine has the tier of `backward`; the views lie inside `arena` and do not overlap; all
    /// threads are past the steps before, and each item is done by one thread.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, backward: AvgPoolBackward) {
        let (n, y) = (
            item / self.in_gradient.height,
            item % self.in_gradient.height,
        );
        let channels = self.in_gradient.channels;
        assert!(self.first_channel + channels <= self.out_gradient.channels);
        // SAFETY: the views lie inside the arena, and `out_gradient` has `first_channel + channels`
        // channels or more; the caller guarantees the tier.
        unsafe {
            backward(&AvgPoolBackwardArgs {
                out_gradient: ImagePixels::new(&self.out_gradient, arena, n, self.first_channel),
                in_gradient: ImagePixels::new(&self.in_gradient, arena, n, 0),
                y,
                window: self.window,
                accumulate: self.accumulate,
                channels,
            });
        }
    }
}
