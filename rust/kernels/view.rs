//! A tensor's place in the arena.

use std::ops::Range;

use crate::dtype::{Dtype, Element};
use crate::shape::TensorShape;

/// The bytes of a cache line.
pub const LINE_BYTES: usize = 64;

/// The values of `T` in a cache line.
pub const fn line_of<T: Element>() -> usize {
    LINE_BYTES / size_of::<T>()
}

/// An NHWC tensor with a border of zeros around each image, at an offset of the arena.
///
/// The element of image `n`, pixel (`y`, `x`), channel `c` lies
/// `n·image_stride + (y + border)·row_pitch + (x + border)·pixel_stride + c` elements after byte
/// `offset_bytes` of the arena. A convolution with padding p reads an input with a border of at
/// least p, and so never asks whether a tap lies inside the image.
///
/// Units: strides count elements of the tensor's dtype, as pointers of its type do. Places in the
/// arena, which tensors of all dtypes share, and lengths there count bytes; their names say so.
///
/// Only an [`ActivationLayout`](super::ActivationLayout) chooses the strides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The first byte of the first image's border, from the start of the arena.
    pub offset_bytes: usize,
    /// Images.
    pub batch: usize,
    /// Rows of an image, without the border.
    pub height: usize,
    /// Pixels of a row, without the border.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
    /// Rows and columns of zeros on every side.
    pub border: usize,
    /// Elements from a pixel to the next in its row.
    pub pixel_stride: usize,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from an image to the next.
    pub image_stride: usize,
}

impl View {
    /// A tensor at the start of the arena. Each row starts on a cache line.
    pub(super) fn new(
        dtype: Dtype,
        shape: TensorShape,
        border: usize,
        pixel_stride: usize,
    ) -> Self {
        let line = LINE_BYTES / dtype.size();
        let row_pitch = ((shape.width + 2 * border) * pixel_stride).next_multiple_of(line);
        Self {
            dtype,
            offset_bytes: 0,
            batch: shape.batch,
            height: shape.height,
            width: shape.width,
            channels: shape.channels,
            border,
            pixel_stride,
            row_pitch,
            image_stride: (shape.height + 2 * border) * row_pitch,
        }
    }

    /// The same so many bytes further on.
    pub fn shifted(self, bytes: usize) -> Self {
        Self {
            offset_bytes: self.offset_bytes + bytes,
            ..self
        }
    }

    /// Some of its images, as a tensor of their own.
    pub fn images(self, first: usize, count: usize) -> Self {
        Self {
            batch: count,
            ..self.shifted(first * self.image_stride_bytes())
        }
    }

    /// The first `count` pixels of each row of the first image, as a tensor of their own.
    pub fn first_pixels(self, count: usize) -> Self {
        Self {
            batch: 1,
            width: count,
            ..self
        }
    }

    /// The shape, without the border.
    pub fn shape(&self) -> TensorShape {
        [self.batch, self.height, self.width, self.channels].into()
    }

    /// The channels of a pixel with what follows them: in bf16 a zero after an odd number, since kernels read pairs,
    /// and a zero weight would not make zero of a NaN.
    pub fn stored_channels(&self) -> usize {
        self.dtype.stored(self.channels)
    }

    /// Bytes that the tensor takes up, border included.
    pub fn len_bytes(&self) -> usize {
        self.batch * self.image_stride_bytes()
    }

    /// Bytes from an image to the next.
    pub fn image_stride_bytes(&self) -> usize {
        self.image_stride * self.dtype.size()
    }

    /// True if the channels of each pixel may be read and written in whole cache lines.
    pub fn has_whole_lines(&self) -> bool {
        (self.pixel_stride * self.dtype.size()).is_multiple_of(LINE_BYTES)
    }

    /// The first byte of pixel (`y`, `x`) of image `n`, from the start of the arena.
    pub fn pixel_bytes(&self, n: usize, y: usize, x: usize) -> usize {
        let elements = n * self.image_stride
            + (y + self.border) * self.row_pitch
            + (x + self.border) * self.pixel_stride;
        self.offset_bytes + elements * self.dtype.size()
    }

    /// The first element of pixel (`y`, `x`) of image `n`.
    ///
    /// # Safety
    /// The tensor lies inside `arena`, the pixel inside the tensor, and `T` is the type of its
    /// elements.
    pub unsafe fn pixel_ptr<T: Element>(
        &self,
        arena: *mut u8,
        n: usize,
        y: usize,
        x: usize,
    ) -> *mut T {
        debug_assert_eq!(T::DTYPE, self.dtype);
        // SAFETY: the caller keeps the same contract.
        unsafe { arena.add(self.pixel_bytes(n, y, x)).cast() }
    }

    /// The channels of pixel (`y`, `x`) of image `n`.
    ///
    /// # Panics
    /// If `T` is not the type of the elements, or the pixel lies outside `arena`.
    pub fn pixel<'a, T: Element>(&self, arena: &'a [u8], n: usize, y: usize, x: usize) -> &'a [T] {
        assert_eq!(T::DTYPE, self.dtype);
        let start = self.pixel_bytes(n, y, x);
        bytemuck::cast_slice(&arena[start..start + self.channels * size_of::<T>()])
    }

    /// The border of image `n`, as the runs of bytes between its pixels.
    pub(in crate::kernels) fn border_runs(&self, n: usize) -> impl Iterator<Item = Range<usize>> {
        let image = self.offset_bytes + n * self.image_stride_bytes();
        let end_of_image = image + self.image_stride_bytes();
        let row_bytes = self.width * self.pixel_stride * self.dtype.size();
        // The first run is the rows above and the first row's left side. Then each row's right side and
        // the next one's left side are a run. The last run is the last right side and the rows below.
        (0..=self.height).map(move |y| {
            let start = if y == 0 {
                image
            } else {
                self.pixel_bytes(n, y - 1, 0) + row_bytes
            };
            let end = if y == self.height {
                end_of_image
            } else {
                self.pixel_bytes(n, y, 0)
            };
            start..end
        })
    }

    /// Items of work for the borders, one for each image; none without a border.
    pub fn border_items(&self) -> usize {
        if self.border > 0 { self.batch } else { 0 }
    }

    /// Writes zeros into image `n`, border included.
    ///
    /// # Safety
    /// The tensor lies inside `arena`, and no other thread uses this image meanwhile.
    pub unsafe fn zero_image(&self, n: usize, arena: *mut u8) {
        let bytes = self.image_stride_bytes();
        // SAFETY: the caller keeps the same contract.
        unsafe {
            arena
                .add(self.offset_bytes + n * bytes)
                .write_bytes(0, bytes)
        };
    }

    /// The same pixels as a tensor without a border.
    pub fn without_border(self) -> Self {
        self.every(1, [0, 0])
    }

    /// Every `stride`-th pixel of every `stride`-th row, beginning with pixel `first`, as a tensor
    /// without a border.
    pub fn every(self, stride: usize, first: [usize; 2]) -> Self {
        let [y, x] = first;
        Self {
            offset_bytes: self.pixel_bytes(0, y, x),
            height: self.height.saturating_sub(y).div_ceil(stride),
            width: self.width.saturating_sub(x).div_ceil(stride),
            border: 0,
            pixel_stride: stride * self.pixel_stride,
            row_pitch: stride * self.row_pitch,
            ..self
        }
    }

    /// Writes zeros into the border of image `n`.
    ///
    /// # Safety
    /// The tensor lies inside `arena`, and no other thread uses this border meanwhile.
    pub unsafe fn zero_border(&self, n: usize, arena: *mut u8) {
        for run in self.border_runs(n) {
            // SAFETY: the caller keeps the same contract.
            unsafe { arena.add(run.start).write_bytes(0, run.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn border_and_pixels_cover_the_tensor_once() {
        for (height, width, border) in [(1, 1, 1), (3, 5, 1), (2, 7, 3), (4, 2, 0)] {
            // Pixels without a gap.
            let mut view = View::new(Dtype::F32, [2, height, width, 3].into(), border, 3);
            view.offset_bytes = 128;
            let mut count = vec![0; view.offset_bytes + view.len_bytes()];
            for n in 0..2 {
                for i in view.border_runs(n).flatten() {
                    count[i] += 1;
                }
                for y in 0..height {
                    for x in 0..width {
                        let start = view.pixel_bytes(n, y, x);
                        count[start..start + 12].iter_mut().for_each(|n| *n += 1);
                    }
                }
            }
            assert!(count[..128].iter().all(|&n| n == 0));
            assert!(count[128..].iter().all(|&n| n == 1));
        }
    }

    #[test]
    fn some_images_are_where_they_were() {
        let mut view = View::new(Dtype::F32, [3, 2, 5, 7].into(), 1, 16);
        view.offset_bytes = 64;
        let last = view.images(2, 1);
        assert_eq!(last.pixel_bytes(0, 1, 4), view.pixel_bytes(2, 1, 4));
        assert_eq!(last.shape(), [1, 2, 5, 7].into());
        let first = view.first_pixels(2);
        assert_eq!(first.pixel_bytes(0, 1, 1), view.pixel_bytes(0, 1, 1));
        assert_eq!(first.shape(), [1, 2, 2, 7].into());
    }
}
