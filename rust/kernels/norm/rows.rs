//! Blocks of pixels.

use std::ops::Range;
use std::ptr;

use crate::kernels::conv::Walk;
use crate::kernels::view::View;
use crate::simd::Simd;

/// Pixels of a block.
pub(super) const ROWS: usize = 256;

/// Channels of an item, at most.
const CHANNELS: usize = 256;

/// Vectors of a row that are summed side by side: whole cache lines of a row are read in order.
pub(super) const WIDTH: usize = 4;

/// A tensor's pixels in blocks, and its channels in runs: the items of work of a sum over pixels.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pixels: usize,
    channels: usize,
}

impl Blocks {
    pub(super) fn of(view: &View) -> Self {
        Self {
            pixels: view.shape().pixels(),
            channels: view.channels,
        }
    }

    /// The number of blocks of pixels.
    pub(super) fn count(&self) -> usize {
        self.pixels.div_ceil(ROWS)
    }

    /// The pixels of block `i`.
    pub(super) fn len(&self, i: usize) -> usize {
        ROWS.min(self.pixels - i * ROWS)
    }

    fn runs(&self) -> usize {
        self.channels.div_ceil(CHANNELS)
    }

    pub(super) fn items(&self) -> usize {
        self.count() * self.runs()
    }

    /// The item's block, and its channels.
    pub(super) fn item(&self, item: usize) -> (usize, Range<usize>) {
        let (block, run) = (item / self.runs(), item % self.runs());
        let first = run * CHANNELS;
        (block, first..(first + CHANNELS).min(self.channels))
    }
}

/// The first channels of a block's pixels.
pub(super) struct Rows([*mut f32; ROWS], usize);

impl Rows {
    /// Those of block `block` of `view`.
    pub(super) fn of(view: &View, block: usize, arena: *mut u8) -> Self {
        let count = Blocks::of(view).len(block);
        let mut rows = [ptr::null_mut(); ROWS];
        Walk::over(view).fill(view, block * ROWS, arena, &mut rows[..count]);
        Self(rows, count)
    }

    pub(super) fn as_slice(&self) -> &[*mut f32] {
        &self.0[..self.1]
    }
}

/// Pixels whose sum is taken in plain f32.
pub(super) const CHUNK: usize = 8;

/// Sums that lose no digits: short sums in f32 are added up with the rounding errors kept aside (Knuth, "The
/// Art of Computer Programming", volume 2; Ogita, Rump and Oishi, "Accurate Sum and Dot Product", 2005).
pub(super) struct Exact<S: Simd, const W: usize> {
    sum: [S::V; W],
    error: [S::V; W],
}

impl<S: Simd, const W: usize> Exact<S, W> {
    #[inline(always)]
    pub(super) fn zero(s: S) -> Self {
        Self {
            sum: [s.splat(0.0); W],
            error: [s.splat(0.0); W],
        }
    }

    /// Adds `x`.
    #[inline(always)]
    #[allow(clippy::needless_range_loop)] // The compiler keeps small arrays in registers.
    pub(super) fn add(&mut self, s: S, x: [S::V; W]) {
        for i in 0..W {
            let before = self.sum[i];
            let sum = s.add(before, x[i]);
            let added = s.sub(sum, before);
            let lost = s.add(s.sub(before, s.sub(sum, added)), s.sub(x[i], added));
            self.sum[i] = sum;
            self.error[i] = s.add(self.error[i], lost);
        }
    }

    /// The sums, rounded once.
    #[inline(always)]
    pub(super) fn total(&self, s: S) -> [S::V; W] {
        std::array::from_fn(
            #[inline(always)]
            |i| s.add(self.sum[i], self.error[i]),
        )
    }
}
