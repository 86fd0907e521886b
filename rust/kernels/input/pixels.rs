//! The caller's images.

use super::normalization::Normalization;

/// The caller's images, `[batch, height, width, channels]`, contiguous.
#[derive(Clone, Copy)]
pub enum Pixels<'a> {
    /// Already normalised.
    F32(&'a [f32]),
    /// Values from 0 to 255, to be normalised.
    U8(&'a [u8], &'a Normalization),
}

impl<'a> Pixels<'a> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::U8(x, _) => x.len(),
        }
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of `range`.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Pixels<'a> {
        match *self {
            Self::F32(x) => Self::F32(&x[range]),
            Self::U8(x, normalization) => Self::U8(&x[range], normalization),
        }
    }
}
