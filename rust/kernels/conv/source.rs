//! One input of a convolution: the taps of its window, and pointers to its rows.

use super::window::ChannelWindow;
use crate::dtype::Element;
use crate::kernels::view::View;
use crate::shape::Window;

/// The most inputs that are summed into one output.
pub const MAX_SOURCES: usize = 2;

/// One input of a convolution, with the window that is read from it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The input's place.
    pub view: View,
    /// From an output pixel to the next, in input pixels.
    pub stride: usize,
    /// The padding of the window, at most the view's border.
    pub padding: usize,
    /// Offsets of the window's taps from its top left corner: for each panel, or once if all
    /// panels read the same.
    pub(super) taps: Vec<Vec<usize>>,
    /// Contiguous elements of a tap.
    pub(super) tap_len: usize,
}

impl Source {
    /// The taps of `window` over all channels of `view`.
    ///
    /// # Panics
    /// If the view's border is narrower than the padding.
    pub fn new(view: View, window: Window) -> Self {
        let all = ChannelWindow::new(view.channels, 1, 1, 1);
        Self::grouped(view, window, all, 1)
    }

    /// All channels of every pixel of `view`.
    pub fn pixels(view: View) -> Self {
        let window = Window {
            kernel: 1,
            stride: 1,
            padding: 0,
            dilation: 1,
        };
        Self::new(view, window)
    }

    /// The taps of `window` over `view`; each of `panels` panels reads the channels that `channels`
    /// gives it.
    ///
    /// # Panics
    /// If the view's border is narrower than the padding, or `channels` does not match the view.
    pub fn grouped(view: View, window: Window, channels: ChannelWindow, panels: usize) -> Self {
        let Window {
            kernel,
            stride,
            padding,
            dilation,
        } = window;
        assert!(padding <= view.border && channels.fits(view.channels));
        // If the taps' pixels lie side by side, a row of the window is one run.
        let (columns, tap_len) = if view.pixel_stride == channels.len && dilation == 1 {
            (1, kernel * channels.len)
        } else {
            (kernel, channels.len)
        };
        let panels = if channels.is_whole() { 1 } else { panels };
        let tap = |ky: usize, kx: usize| dilation * (ky * view.row_pitch + kx * view.pixel_stride);
        let taps = (0..panels)
            .map(|panel| {
                let start = channels.start(panel);
                let of_row = |ky| (0..columns).map(move |kx| start + tap(ky, kx));
                (0..kernel).flat_map(of_row).collect()
            })
            .collect();
        Self {
            view,
            stride,
            padding,
            taps,
            tap_len,
        }
    }

    /// The taps of a gradient by an input: all channels that `channels` gives each of `panels` panels, of
    /// the pixels that lie `offsets` rows and columns from an output pixel.
    ///
    /// # Panics
    /// If the view's border is narrower than an offset, or `channels` does not match the view.
    pub fn at_offsets(
        view: View,
        offsets: &[[isize; 2]],
        channels: ChannelWindow,
        panels: usize,
    ) -> Self {
        let least = offsets.iter().flatten().copied().min().unwrap_or(0);
        let padding = least.min(0).unsigned_abs();
        assert!(padding <= view.border && channels.fits(view.channels));
        let panels = if channels.is_whole() { 1 } else { panels };
        let tap = |&[y, x]: &[isize; 2]| {
            let from_corner = |offset: isize| offset.wrapping_add_unsigned(padding) as usize;
            from_corner(y) * view.row_pitch + from_corner(x) * view.pixel_stride
        };
        let taps = (0..panels)
            .map(|panel| {
                offsets
                    .iter()
                    .map(|at| channels.start(panel) + tap(at))
                    .collect()
            })
            .collect();
        Self {
            view,
            stride: 1,
            padding,
            taps,
            tap_len: channels.len,
        }
    }

    /// K of a panel's matrix product: the elements of the window that it reads.
    pub fn k(&self) -> usize {
        self.taps[0].len() * self.tap_len
    }

    /// True if the window is one pixel.
    pub fn is_pixel(&self) -> bool {
        self.taps[0].len() == 1
    }

    /// The start of the window of output pixel (n, 0, 0), and the steps from there.
    pub(super) fn walk(&self) -> Walk {
        let v = &self.view;
        let inset = v.border - self.padding;
        let start = inset * (v.row_pitch + v.pixel_stride);
        Walk {
            start_bytes: v.offset_bytes + start * v.dtype.size(),
            image: v.image_stride,
            row: self.stride * v.row_pitch,
            pixel: self.stride * v.pixel_stride,
        }
    }
}

/// The places of pixels in the order of a convolution's output: `n·image + y·row + x·pixel` elements
/// after byte `start_bytes` of the arena.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Walk {
    start_bytes: usize,
    image: usize,
    row: usize,
    pixel: usize,
}

impl Walk {
    pub(in crate::kernels) fn over(view: &View) -> Self {
        Self {
            start_bytes: view.pixel_bytes(0, 0, 0),
            image: view.image_stride,
            row: view.row_pitch,
            pixel: view.pixel_stride,
        }
    }

    /// The distance from a pixel to the next, if it is the same between all pixels of `out`'s shape.
    pub(super) fn even_stride(&self, out: &View) -> Option<usize> {
        let rows = out.height == 1 || self.row == out.width * self.pixel;
        let images = out.batch == 1 || self.image == out.height * out.width * self.pixel;
        (rows && images).then_some(self.pixel)
    }

    /// The same walk, `bytes` further on.
    pub(super) fn shifted(self, bytes: usize) -> Self {
        Self {
            start_bytes: self.start_bytes + bytes,
            ..self
        }
    }

    /// Pointers into `arena` for the output pixels `first..first + pointers.len()` of `out`'s shape.
    pub(in crate::kernels) fn fill<T: Element>(
        &self,
        out: &View,
        first: usize,
        arena: *mut u8,
        pointers: &mut [*mut T],
    ) {
        let (height, width) = (out.height, out.width);
        let (mut n, mut y, mut x) = (
            first / (height * width),
            first / width % height,
            first % width,
        );
        // The code that dereferences the pointer must guarantee that it lies inside the arena.
        let start = arena.wrapping_add(self.start_bytes).cast::<T>();
        let mut filled = 0;
        while filled < pointers.len() {
            let run = (width - x).min(pointers.len() - filled);
            let from = n * self.image + y * self.row + x * self.pixel;
            for (i, pointer) in pointers[filled..filled + run].iter_mut().enumerate() {
                *pointer = start.wrapping_add(from + i * self.pixel);
            }
            filled += run;
            x = 0;
            y += 1;
            if y == height {
                y = 0;
                n += 1;
            }
        }
    }
}
