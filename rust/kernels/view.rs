//! A tensor's place in the arena.

use std::ops::Range;

/// An NHWC tensor with a border of zeros around each image, at an offset of the arena.
///
/// The element of image `n`, pixel (`y`, `x`), channel `c` lies at
/// `offset + n·image_stride + (y + border)·row_pitch + (x + border)·pixel_stride + c`.
/// A convolution with padding p reads an input with a border of at least p, and so never asks
/// whether a tap lies inside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// The first element of the first image's border.
    pub offset: usize,
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
    /// From a pixel to the next in its row.
    pub pixel_stride: usize,
    /// From a row to the next.
    pub row_pitch: usize,
    /// From an image to the next.
    pub image_stride: usize,
}

/// The f32 values of a cache line.
pub const LINE: usize = 16;

impl View {
    /// A tensor whose pixels each start on a cache line.
    ///
    /// From 512 channels on, pixels get one line more than they need: rows of a tile that are
    /// 4 KiB apart would all fall into the same set of the first-level cache and evict each other.
    pub fn activations(batch: usize, height: usize, width: usize, channels: usize) -> Self {
        let lines = channels.div_ceil(LINE) + usize::from(channels >= 512);
        Self::new(batch, height, width, channels, 0, lines * LINE)
    }

    /// `count` matrices `[rows, channels]`, one behind the other, as images of one row.
    ///
    /// The same place of each falls into another set of the first-level cache: their distance is
    /// an odd number of cache lines.
    pub fn matrices(count: usize, rows: usize, channels: usize) -> Self {
        let mut view = Self::activations(count, 1, rows, channels);
        let lines = view.image_stride / LINE;
        view.image_stride = (lines | 1) * LINE;
        view
    }

    /// The same tensor with `border` pixels of zeros around each image.
    pub fn with_border(self, border: usize) -> Self {
        Self::new(
            self.batch,
            self.height,
            self.width,
            self.channels,
            border,
            self.pixel_stride,
        )
    }

    /// A network input: pixels of `channels` elements one after the other, so that the window's
    /// columns are one run of `kernel_w · channels` elements.
    pub fn pixels(
        batch: usize,
        height: usize,
        width: usize,
        channels: usize,
        border: usize,
    ) -> Self {
        Self::new(batch, height, width, channels, border, channels)
    }

    fn new(
        batch: usize,
        height: usize,
        width: usize,
        channels: usize,
        border: usize,
        pixel_stride: usize,
    ) -> Self {
        let row_pitch = ((width + 2 * border) * pixel_stride).next_multiple_of(LINE);
        Self {
            offset: 0,
            batch,
            height,
            width,
            channels,
            border,
            pixel_stride,
            row_pitch,
            image_stride: (height + 2 * border) * row_pitch,
        }
    }

    /// Some of its images, as a tensor of their own.
    pub fn images(self, first: usize, count: usize) -> Self {
        Self {
            offset: self.offset + first * self.image_stride,
            batch: count,
            ..self
        }
    }

    /// Elements that the tensor takes up, border included.
    pub fn len(&self) -> usize {
        self.batch * self.image_stride
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The first element of pixel (`y`, `x`) of image `n`.
    pub fn pixel(&self, n: usize, y: usize, x: usize) -> usize {
        self.offset
            + n * self.image_stride
            + (y + self.border) * self.row_pitch
            + (x + self.border) * self.pixel_stride
    }

    /// The border of image `n`, as the runs of elements between its pixels.
    pub(in crate::kernels) fn border_runs(&self, n: usize) -> impl Iterator<Item = Range<usize>> {
        let image = self.offset + n * self.image_stride;
        let side = self.border * self.pixel_stride;
        let row = move |y| image + (y + self.border) * self.row_pitch;
        // The rows above with the first row's left side are one run; then each row's right side
        // with the next one's left side; then the last right side with the rows below.
        (0..=self.height).map(move |y| {
            let start = if y == 0 {
                image
            } else {
                row(y - 1) + side + self.width * self.pixel_stride
            };
            let end = if y == self.height {
                image + self.image_stride
            } else {
                row(y) + side
            };
            start..end
        })
    }

    /// Items of work for the borders, one for each image; none without a border.
    pub fn border_items(&self) -> usize {
        if self.border > 0 { self.batch } else { 0 }
    }

    /// Writes zeros into the border of image `n`.
    ///
    /// # Safety
    /// The tensor lies inside `arena`, and no other thread uses this border meanwhile.
    pub unsafe fn zero_border(&self, n: usize, arena: *mut f32) {
        for run in self.border_runs(n) {
            // SAFETY: the caller's.
            unsafe { arena.add(run.start).write_bytes(0, run.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_start_on_lines_and_not_four_kib_apart() {
        for channels in [1, 16, 64, 100, 512, 1024, 2048] {
            let view = View::activations(1, 2, 3, channels);
            assert_eq!(view.pixel_stride % LINE, 0);
            assert!(view.pixel_stride >= channels);
            assert!(channels < 512 || !view.pixel_stride.is_multiple_of(512));
        }
    }

    #[test]
    fn border_and_pixels_cover_the_tensor_once() {
        for (height, width, border) in [(1, 1, 1), (3, 5, 1), (2, 7, 3), (4, 2, 0)] {
            let mut view = View::pixels(2, height, width, 3, border);
            view.offset = 32;
            let mut count = vec![0; view.offset + view.len()];
            for n in 0..2 {
                for i in view.border_runs(n).flatten() {
                    count[i] += 1;
                }
                for y in 0..height {
                    for x in 0..width {
                        for c in 0..3 {
                            count[view.pixel(n, y, x) + c] += 1;
                        }
                    }
                }
            }
            assert!(count[..32].iter().all(|&n| n == 0));
            assert!(count[32..].iter().all(|&n| n == 1));
        }
    }
}
