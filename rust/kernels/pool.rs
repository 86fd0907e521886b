//! Max pooling and average pooling, one output pixel at a time, NHWC.

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

/// What an average pool computes: `out[c] = 1 / divisor · Σ_y Σ_x pixel(y, x)[c]`.
pub struct AvgPoolArgs {
    /// The first of the window's pixels that lie inside the image.
    pub input: *const f32,
    /// Rows and columns of those pixels.
    pub height: usize,
    /// See `height`.
    pub width: usize,
    /// Elements from a row to the next.
    pub row_pitch: usize,
    /// Elements from a pixel to the next.
    pub pixel_stride: usize,
    /// The pixels that the mean is taken over, padding among them where it counts.
    pub divisor: usize,
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
                let scale = s.splat(1.0 / args.divisor as f32);
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

/// The window of an average pool, with torch's meaning of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AvgWindow {
    /// Height and width.
    pub kernel: usize,
    /// From an output pixel to the next, in input pixels.
    pub stride: usize,
    /// Rows and columns of zeros around the image; at most half the kernel.
    pub padding: usize,
    /// Whether a window that only begins inside the image counts. Without padding only.
    pub ceil_mode: bool,
    /// Whether padding counts as pixels.
    pub count_include_pad: bool,
}

impl AvgWindow {
    /// The output's size where the input has `size` pixels; 0 where no window fits in.
    pub fn output(&self, size: usize) -> usize {
        let span = (size + 2 * self.padding).saturating_sub(self.kernel);
        let beyond = size + 2 * self.padding < self.kernel;
        match (beyond, self.ceil_mode) {
            (true, false) => 0,
            (true, true) => 1,
            (false, false) => span / self.stride + 1,
            (false, true) => span.div_ceil(self.stride) + 1,
        }
    }

    /// The input rows (or columns) under output row (or column) `o` that lie inside the image.
    fn inside(&self, o: usize, size: usize) -> Range<usize> {
        let start = o * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel - self.padding).min(size)
    }
}

/// An average pool, as the plan has laid it out.
#[derive(Clone, Debug)]
pub struct AvgPoolLayer {
    /// Where the input lies.
    pub input: View,
    /// Where the output lies; the border is zeroed too.
    pub out: View,
    /// The window; without one it is the whole image.
    pub window: Option<AvgWindow>,
}

impl AvgPoolLayer {
    /// Items of work: each output row, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * self.out.height + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`MaxPoolLayer::run_item`].
    pub unsafe fn run_item(&self, item: usize, arena: *mut f32, table: &KernelTable) {
        let rows = self.out.batch * self.out.height;
        if item >= rows {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - rows, arena) };
            return;
        }
        let (n, oy) = (item / self.out.height, item % self.out.height);
        let inside = |o: usize, size: usize| match self.window {
            Some(window) => window.inside(o, size),
            None => 0..size,
        };
        let ys = inside(oy, self.input.height);
        for ox in 0..self.out.width {
            let xs = inside(ox, self.input.width);
            let divisor = match self.window {
                Some(window) if window.count_include_pad => window.kernel * window.kernel,
                _ => ys.len() * xs.len(),
            };
            // SAFETY: the views lie inside the arena; the table proves the tier.
            unsafe {
                (table.avg_pool)(&AvgPoolArgs {
                    input: arena.add(self.input.pixel(n, ys.start, xs.start)),
                    height: ys.len(),
                    width: xs.len(),
                    row_pitch: self.input.row_pitch,
                    pixel_stride: self.input.pixel_stride,
                    divisor,
                    out: arena.add(self.out.pixel(n, oy, ox)),
                    channels: self.out.channels,
                });
            }
        }
    }
}
