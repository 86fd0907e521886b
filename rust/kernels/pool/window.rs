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

/// The output rows (or columns) whose windows cover input row (or column) `i`, of `outputs`.
pub(super) fn over(window: Option<PoolWindow>, i: usize, outputs: usize) -> Range<usize> {
    let Some(window) = window else {
        return 0..outputs;
    };
    let padded = i + window.padding;
    let end = (padded / window.stride + 1).min(outputs);
    let start = (padded + 1).saturating_sub(window.kernel);
    start.div_ceil(window.stride).min(end)..end
}

/// The pixels that the mean of a window over `ys` and `xs` is taken over, with padding if it counts.
pub(super) fn divisor(window: Option<PoolWindow>, ys: &Range<usize>, xs: &Range<usize>) -> usize {
    match window {
        Some(window) if window.count_include_pad => window.kernel * window.kernel,
        _ => ys.len() * xs.len(),
    }
}
