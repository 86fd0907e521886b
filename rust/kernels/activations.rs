//! The layout of a tier's activations in the arena.

use super::view::{LINE_BYTES, View};
use crate::dtype::Dtype;
use crate::shape::TensorShape;

/// From this many bytes on, pixels get one cache line more than they need: rows of a tile that are
/// 4 KiB apart would all fall into the same set of the first-level cache and evict each other.
const ALIASING_BYTES: usize = 2048;

/// A tier's layout of activations. The plan asks it for each tensor's [`View`] and computes no
/// strides itself, so a tier that wants another layout adds a variant here.
///
/// Its rules are in bytes and hold for every dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationLayout {
    /// NHWC: a pixel's channels lie side by side, and each pixel starts on a cache line.
    Nhwc,
}

impl ActivationLayout {
    /// A tensor between layers, with `border` pixels of zeros around each image.
    pub fn activations(self, dtype: Dtype, shape: TensorShape, border: usize) -> View {
        match self {
            Self::Nhwc => {
                let bytes = dtype.stored(shape.channels) * dtype.size();
                let lines = bytes.div_ceil(LINE_BYTES) + usize::from(bytes >= ALIASING_BYTES);
                View::new(dtype, shape, border, lines * LINE_BYTES / dtype.size())
            }
        }
    }

    /// The network's input: pixels without a gap, so that the columns of a window are one run of
    /// `kernel_w · channels` elements.
    pub fn image(self, dtype: Dtype, shape: TensorShape, border: usize) -> View {
        match self {
            Self::Nhwc => View::new(dtype, shape, border, dtype.stored(shape.channels)),
        }
    }

    /// `count` matrices `[rows, channels]`, one after the other, as images of one row.
    ///
    /// Their distance is an odd number of cache lines, so that the same place of each falls into
    /// another set of the first-level cache.
    pub fn matrices(self, dtype: Dtype, count: usize, rows: usize, channels: usize) -> View {
        let mut view = self.activations(dtype, [count, 1, rows, channels].into(), 0);
        let lines = view.image_stride_bytes() / LINE_BYTES;
        view.image_stride = (lines | 1) * LINE_BYTES / dtype.size();
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_start_on_lines_and_not_four_kib_apart() {
        for channels in [1, 16, 64, 100, 512, 1024, 2048] {
            let shape = [1, 2, 3, channels].into();
            let view = ActivationLayout::Nhwc.activations(Dtype::F32, shape, 1);
            let bytes = view.pixel_stride * view.dtype.size();
            assert!(view.has_whole_lines() && bytes.is_multiple_of(LINE_BYTES));
            assert!(view.pixel_stride >= channels);
            assert!(channels < 512 || !bytes.is_multiple_of(2048));
        }
    }

    #[test]
    fn matrices_are_an_odd_number_of_lines_apart() {
        for (rows, channels) in [(1, 1), (4, 16), (9, 64), (7, 512)] {
            let view = ActivationLayout::Nhwc.matrices(Dtype::F32, 16, rows, channels);
            assert!(view.image_stride >= rows * view.pixel_stride);
            assert_eq!(view.image_stride_bytes() / LINE_BYTES % 2, 1);
            assert_eq!(view.image_stride_bytes() % LINE_BYTES, 0);
        }
    }
}
