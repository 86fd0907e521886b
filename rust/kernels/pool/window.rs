//! The pixels under a pool's window.

use std::ops::Range;

use crate::dtype::Element;
use crate::kernels::view::View;
use crate::shape::PoolWindow;

/// The pixels of one image that a window covers, without those beyond the image.
#[derive(Clone, Copy)]
pub struct WindowPixels<T> {
    /// The first channel of the top left pixel.
    pub first: *const T,
    /// Rows and columns.
    pub height: usize,
    /// See `height`.
    pub width: usize,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from a pixel to the next.
    pub pixel_stride: usize,
}

impl<T: Element> WindowPixels<T> {
    /// Rows `ys` and columns `xs` of image `n`.
    ///
    /// # Safety
    /// The tensor lies inside `arena`, the pixels inside the tensor, and `T` is the type of its
    /// elements.
    pub(super) unsafe fn new(
        view: &View,
        arena: *mut u8,
        n: usize,
        [ys, xs]: [Range<usize>; 2],
    ) -> Self {
        Self {
            // SAFETY: the caller keeps the same contract.
            first: unsafe { view.pixel_ptr::<T>(arena, n, ys.start, xs.start) }.cast_const(),
            height: ys.len(),
            width: xs.len(),
            row_pitch: view.row_pitch,
            pixel_stride: view.pixel_stride,
        }
    }
}

/// The input rows (or columns) under output row (or column) `o`; all of them without a window.
pub(super) fn inside(window: Option<PoolWindow>, o: usize, size: usize) -> Range<usize> {
    window.map_or(0..size, |window| window.inside(o, size))
}
