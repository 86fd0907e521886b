//! Some channels of all pixels of one image.

use crate::dtype::Element;
use crate::kernels::view::View;

/// The pixels of one image, from one of their channels on.
#[derive(Clone, Copy)]
pub struct ImagePixels<T> {
    /// The channel of the top left pixel.
    pub first: *mut T,
    /// Rows and columns.
    pub height: usize,
    /// See `height`.
    pub width: usize,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from a pixel to the next.
    pub pixel_stride: usize,
}

impl<T: Element> ImagePixels<T> {
    /// Image `n` of `view`, from `channel` on.
    ///
    /// # Safety
    /// The tensor lies inside `arena`, `n` and `channel` inside the tensor, and `T` is the type of its
    /// elements.
    pub(super) unsafe fn new(view: &View, arena: *mut u8, n: usize, channel: usize) -> Self {
        Self {
            // SAFETY: the caller keeps the same contract.
            first: unsafe { view.pixel_ptr::<T>(arena, n, 0, 0).add(channel) },
            height: view.height,
            width: view.width,
            row_pitch: view.row_pitch,
            pixel_stride: view.pixel_stride,
        }
    }

    /// The channel of pixel (`y`, `x`).
    ///
    /// # Safety
    /// The pixel lies inside the image, and the image in memory.
    #[inline(always)]
    pub(super) unsafe fn at(&self, y: usize, x: usize) -> *mut T {
        debug_assert!(y < self.height && x < self.width);
        // SAFETY: the caller keeps the same contract.
        unsafe { self.first.add(y * self.row_pitch + x * self.pixel_stride) }
    }
}
