//! Sizes of images and windows, shared by the graph and the kernels.

use std::ops::Range;

use crate::error::Error;

/// The largest image, in pixels: beyond it, sizes in the arena could overflow.
const MAX_PIXELS: usize = 1 << 28;

/// The shape of a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
}

impl Shape {
    /// Checks that an image has pixels, and not so many that sizes overflow.
    ///
    /// # Errors
    /// A side is zero, or an image has more than 2^28 pixels.
    pub fn check_sides(&self) -> Result<(), Error> {
        let &Self { height, width, .. } = self;
        if height == 0 || width == 0 {
            return Err(Error::Argument(format!(
                "images: expected a height and a width of at least 1, found {height} x {width}"
            )));
        }
        if height.checked_mul(width).is_none_or(|n| n > MAX_PIXELS) {
            return Err(Error::Argument(format!(
                "images: expected at most {MAX_PIXELS} pixels an image, found {height} x {width}"
            )));
        }
        Ok(())
    }
}

/// The shape of an NHWC tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Channels of a pixel.
    pub channels: usize,
}

impl TensorShape {
    /// Pixels of all images.
    pub fn pixels(&self) -> usize {
        self.batch * self.height * self.width
    }
}

impl From<[usize; 4]> for TensorShape {
    /// From `[batch, height, width, channels]`.
    fn from([batch, height, width, channels]: [usize; 4]) -> Self {
        Self {
            batch,
            height,
            width,
            channels,
        }
    }
}

/// A square window and how it moves over an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Height and width, in taps.
    pub kernel: usize,
    /// From an output pixel to the next, in input pixels.
    pub stride: usize,
    /// Rows and columns beyond the image on every side.
    pub padding: usize,
    /// From a tap to the next, in input pixels.
    pub dilation: usize,
}

impl Window {
    /// Input pixels from the first tap to the last, including both: `(k - 1) · d + 1`.
    pub fn span(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    /// The output's size for an input of `size` pixels: `⌊(size + 2p - span) / s⌋ + 1`.
    pub fn output(&self, size: usize) -> usize {
        (size + 2 * self.padding - self.span()) / self.stride + 1
    }

    /// The input pixel under tap `k` for output pixel `o`, if it lies inside the image.
    pub fn input(&self, o: usize, k: usize, size: usize) -> Option<usize> {
        (o * self.stride + k * self.dilation)
            .checked_sub(self.padding)
            .filter(|&i| i < size)
    }
}

/// The window of a max or average pool; the numbers mean the same as in torch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolWindow {
    /// Height and width.
    pub kernel: usize,
    /// From an output pixel to the next, in input pixels.
    pub stride: usize,
    /// Rows and columns beyond the image on every side; at most half the kernel.
    pub padding: usize,
    /// Further rows below the image and columns on its right. Only without padding; less than the
    /// kernel.
    pub extra: usize,
    /// Counts windows that only begin inside the image. Only without padding.
    pub ceil_mode: bool,
    /// Counts pixels beyond the image as zeros in an average.
    pub count_include_pad: bool,
}

impl PoolWindow {
    /// A window without padding that moves by its own size.
    pub const fn new(kernel: usize) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: 0,
            extra: 0,
            ceil_mode: false,
            count_include_pad: false,
        }
    }

    /// The output's size for an input of `size` pixels. If no window fits, it is 1 in ceil mode and 0
    /// otherwise.
    pub fn output(&self, size: usize) -> usize {
        let padded = size + 2 * self.padding + self.extra;
        let span = padded.saturating_sub(self.kernel);
        match (padded < self.kernel, self.ceil_mode) {
            (true, false) => 0,
            (true, true) => 1,
            (false, false) => span / self.stride + 1,
            (false, true) => span.div_ceil(self.stride) + 1,
        }
    }

    /// The input rows (or columns) under output row (or column) `o` that lie inside the image.
    pub fn inside(&self, o: usize, size: usize) -> Range<usize> {
        let start = o * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(height: usize, width: usize) -> Result<(), String> {
        let shape = Shape {
            batch: 1,
            height,
            width,
        };
        shape.check_sides().map_err(|e| e.to_string())
    }

    #[test]
    fn sides_are_at_least_one_pixel() {
        assert_eq!(check(1, 1), Ok(()));
        for (height, width) in [(0, 1), (1, 0), (0, 0)] {
            let message = check(height, width).unwrap_err();
            assert!(
                message.contains("at least 1") && message.contains("0"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_largest_image_is_accepted_and_no_larger_one() {
        assert_eq!(check(1 << 14, 1 << 14), Ok(()));
        assert_eq!(check(1, MAX_PIXELS), Ok(()));
        for (height, width) in [(1, MAX_PIXELS + 1), (1 << 15, 1 << 14), (usize::MAX, 2)] {
            let message = check(height, width).unwrap_err();
            assert!(message.contains("at most 268435456"), "{message}");
        }
    }
}
