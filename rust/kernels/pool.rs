//! Max pooling and global average pooling, one pixel or one image at a time, NHWC.

use std::ops::Range;

use super::simd::Simd;
use super::table::KernelTable;
use super::view::View;

/// What a max pool computes: `out[c] = max over the window's pixels of pixel[c]`.
pub struct MaxPoolArgs<'a> {
    /// The window's pixels that lie inside the image (padding never wins): at least one.
    pub window: &'a [*const f32],
    /// Where the result goes.
    pub out: *mut f32,
    /// Channels of a pixel.
    pub channels: usize,
}

/// # Safety
/// The tier is there; each pixel of the window is valid for reading `channels` values and `out`
/// for writing them.
pub type MaxPool = unsafe fn(&MaxPoolArgs);

/// The max pool of tier `S`.
///
/// # Safety
/// See [`MaxPool`].
pub(super) unsafe fn max_pool<S: Simd>(args: &MaxPoolArgs) {
    // SAFETY: the caller vouches for the tier and for `channels` values at each pointer.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let (first, others) = args.window.split_at(1);
                for c in (0..args.channels).step_by(S::LANES) {
                    let n = S::LANES.min(args.channels - c);
                    if n == S::LANES {
                        let mut max = s.load(first[0].add(c));
                        for pixel in others {
                            max = s.max_or_nan(max, s.load(pixel.add(c)));
                        }
                        s.store(args.out.add(c), max);
                    } else {
                        let mut max = s.load_first(n, first[0].add(c));
                        for pixel in others {
                            max = s.max_or_nan(max, s.load_first(n, pixel.add(c)));
                        }
                        s.store_first(n, args.out.add(c), max);
                    }
                }
            },
        );
    }
}

/// What an average pool computes: `out[c] = 1 / (height · width) · Σ_y Σ_x pixel(y, x)[c]`.
pub struct AvgPoolArgs {
    /// The image's first pixel.
    pub input: *const f32,
    /// The image's size in pixels.
    pub height: usize,
    /// See `height`.
    pub width: usize,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from a pixel to the next.
    pub pixel_stride: usize,
    /// Where the result goes.
    pub out: *mut f32,
    /// Channels of a pixel.
    pub channels: usize,
}

/// # Safety
/// The tier is there; each pixel is valid for reading `channels` values and `out` for writing them.
pub type AvgPool = unsafe fn(&AvgPoolArgs);

/// The average pool of tier `S`.
///
/// # Safety
/// See [`AvgPool`].
pub(super) unsafe fn avg_pool<S: Simd>(args: &AvgPoolArgs) {
    // SAFETY: the caller vouches for the tier and for `channels` values at each pixel and `out`.
    unsafe {
        let s = S::assume();
        s.vectorize(
            #[inline(always)]
            || {
                let scale = s.splat(1.0 / (args.height * args.width) as f32);
                for c in (0..args.channels).step_by(S::LANES) {
                    let n = S::LANES.min(args.channels - c);
                    // Row sums first, then their sum: rounding errors grow with the sides of the
                    // image, not with its area.
                    let mut total = s.splat(0.0);
                    for y in 0..args.height {
                        let row = args.input.add(y * args.row_pitch + c);
                        let mut sum = s.splat(0.0);
                        for x in 0..args.width {
                            let pixel = row.add(x * args.pixel_stride);
                            let value = if n == S::LANES {
                                s.load(pixel)
                            } else {
                                s.load_first(n, pixel)
                            };
                            sum = s.add(sum, value);
                        }
                        total = s.add(total, sum);
                    }
                    let mean = s.mul(total, scale);
                    if n == S::LANES {
                        s.store(args.out.add(c), mean);
                    } else {
                        s.store_first(n, args.out.add(c), mean);
                    }
                }
            },
        );
    }
}

/// A 3x3 max pool with stride 2 and padding 1, as the plan has laid it out.
#[derive(Clone, Debug)]
pub struct MaxPoolLayer {
    /// Where the input lies.
    pub input: View,
    /// Where the output lies; the border is zeroed too.
    pub out: View,
}

impl MaxPoolLayer {
    const KERNEL: usize = 3;
    const STRIDE: usize = 2;
    const PADDING: usize = 1;

    /// The output's size where the input has `size` pixels.
    pub fn output(size: usize) -> usize {
        (size + 2 * Self::PADDING - Self::KERNEL) / Self::STRIDE + 1
    }

    /// Items of work: each output row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The views lie inside `arena` and do not overlap; all threads are past the steps before,
    /// and each item is done by one thread.
    pub unsafe fn run_item(&self, item: usize, arena: *mut f32, table: &KernelTable) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, oy) = (item / self.out.height, item % self.out.height);
        let ys = Self::window(oy, self.input.height);
        for ox in 0..self.out.width {
            let mut window = [std::ptr::null(); Self::KERNEL * Self::KERNEL];
            let mut pixels = 0;
            for y in ys.clone() {
                for x in Self::window(ox, self.input.width) {
                    // SAFETY: a pixel of the input, inside the arena.
                    window[pixels] = unsafe { arena.add(self.input.pixel(n, y, x)) }.cast_const();
                    pixels += 1;
                }
            }
            // SAFETY: as above; the table proves the tier.
            unsafe {
                (table.max_pool)(&MaxPoolArgs {
                    window: &window[..pixels],
                    out: arena.add(self.out.pixel(n, oy, ox)),
                    channels: self.out.channels,
                });
            }
        }
    }

    /// The input rows (or columns) under output row (or column) `o` that lie inside the image.
    fn window(o: usize, size: usize) -> Range<usize> {
        let start = o * Self::STRIDE;
        start.saturating_sub(Self::PADDING)..(start + Self::KERNEL - Self::PADDING).min(size)
    }
}

/// A global average pool, as the plan has laid it out.
#[derive(Clone, Debug)]
pub struct AvgPoolLayer {
    /// Where the input lies.
    pub input: View,
    /// Where the output lies: one pixel an image.
    pub out: View,
}

impl AvgPoolLayer {
    /// Items of work: the images.
    pub fn items(&self) -> usize {
        self.out.batch
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`MaxPoolLayer::run_item`].
    pub unsafe fn run_item(&self, n: usize, arena: *mut f32, table: &KernelTable) {
        // SAFETY: the views lie inside the arena; the table proves the tier.
        unsafe {
            (table.avg_pool)(&AvgPoolArgs {
                input: arena.add(self.input.pixel(n, 0, 0)),
                height: self.input.height,
                width: self.input.width,
                row_pitch: self.input.row_pitch,
                pixel_stride: self.input.pixel_stride,
                out: arena.add(self.out.pixel(n, 0, 0)),
                channels: self.out.channels,
            });
        }
    }
}
