//! The input of a convolution, as its weights' gradient reads it: windows where they lie, or copied.

use std::ops::Range;
use std::ptr;

use super::gradient_grid::PIXELS;
use super::outer::{PackArgs, PackRows};
use crate::kernels::conv::source::Source;
use crate::kernels::conv::window::ChannelWindow;
use crate::kernels::view::View;
use crate::shape::Window;

/// Some windows: those of some output pixels, as one panel reads them.
pub(super) struct Windows<'a> {
    /// The convolution's output, or its gradient.
    pub(super) out: &'a View,
    /// The pixels, in the order of the output.
    pub(super) pixels: Range<usize>,
    /// The panel.
    pub(super) panel: usize,
    /// The elements of each window.
    pub(super) ks: Range<usize>,
}

/// The input of a convolution, as its weights' gradient reads it.
#[derive(Clone, Debug)]
pub enum GradientInput {
    /// A tensor with its border of zeros, read like in the convolution.
    Stored(Source),
    /// `max(0, y · scale + shift)` of another convolution's output, and zero beyond the image.
    Normalized {
        /// The output y.
        y: View,
        /// The place of the scales in the arena.
        scale_bytes: usize,
        /// The place of the shifts.
        shift_bytes: usize,
        /// The window of the convolution that reads the activation.
        window: Window,
        /// The channels that each of its panels reads.
        channels: ChannelWindow,
    },
}

impl GradientInput {
    /// Contiguous elements of a tap.
    fn tap_len(&self) -> usize {
        match self {
            Self::Stored(source) => source.tap_len,
            Self::Normalized { channels, .. } => channels.len,
        }
    }

    pub(super) fn k(&self) -> usize {
        match self {
            Self::Stored(source) => source.k(),
            Self::Normalized {
                window, channels, ..
            } => window.kernel * window.kernel * channels.len,
        }
    }

    /// True if all panels read the same rows.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::Stored(source) => source.taps.len() == 1,
            Self::Normalized { channels, .. } => channels.is_whole(),
        }
    }

    /// The first element of the window of output pixel `first` and the distance to the next pixel's, if windows are
    /// read where they lie: those of one pixel, evenly far apart.
    pub(super) fn in_place(
        &self,
        out: &View,
        first: usize,
        arena: *mut u8,
    ) -> Option<(*const f32, usize)> {
        let Self::Stored(source) = self else {
            return None;
        };
        let walk = source.walk();
        let stride = walk.even_stride(out)?;
        if !source.is_pixel() || source.taps.len() > 1 {
            return None;
        }
        let mut start = [ptr::null_mut::<f32>()];
        walk.fill(out, first, arena, &mut start);
        let window = start[0].wrapping_add(source.taps[0][0]);
        Some((window.cast_const(), stride))
    }

    /// Copies windows into rows, `width` elements apart, from `to` on.
    ///
    /// # Safety
    /// The machine has the tier of `copy`. The input lies inside `arena`, and no thread writes it meanwhile; `to` is
    /// valid for writing all rows.
    pub(super) unsafe fn copy_windows(
        &self,
        windows: &Windows,
        arena: *mut u8,
        (to, width): (*mut f32, usize),
        copy: PackRows,
    ) {
        let Windows {
            out,
            pixels,
            panel,
            ks,
        } = windows;
        let (tap_len, count) = (self.tap_len(), pixels.len());
        let mut rows = [ptr::null::<f32>(); PIXELS];
        let mut starts = [ptr::null_mut::<f32>(); PIXELS];
        if let Self::Stored(source) = self {
            let starts = &mut starts[..count];
            source.walk().fill(out, pixels.start, arena, starts);
        }
        let mut k = ks.start;
        while k < ks.end {
            let (tap, c) = (k / tap_len, k % tap_len);
            let len = (tap_len - c).min(ks.end - k);
            self.tap_rows(tap, windows, &starts, arena, &mut rows);
            let norm = match self {
                Self::Stored(_) => None,
                Self::Normalized {
                    scale_bytes,
                    shift_bytes,
                    channels,
                    ..
                } => {
                    let at = (channels.start(*panel) + c) * size_of::<f32>();
                    let of = |bytes: usize| arena.wrapping_add(bytes + at).cast::<f32>();
                    Some((of(*scale_bytes).cast_const(), of(*shift_bytes).cast_const()))
                }
            };
            // SAFETY: the tap's elements lie inside the view, and the caller guarantees the rows.
            unsafe {
                copy(&PackArgs {
                    rows: &rows[..count],
                    first: c,
                    len,
                    norm,
                    out: to.add(k - ks.start),
                    width,
                    zeros: 0,
                });
            }
            k += len;
        }
    }

    /// The starts of tap `tap` of windows that begin at `starts`; null beyond the image.
    fn tap_rows(
        &self,
        tap: usize,
        windows: &Windows,
        starts: &[*mut f32; PIXELS],
        arena: *mut u8,
        rows: &mut [*const f32; PIXELS],
    ) {
        let Windows {
            out, pixels, panel, ..
        } = windows;
        match self {
            Self::Stored(source) => {
                let taps = &source.taps[(*panel).min(source.taps.len() - 1)];
                for (row, start) in rows.iter_mut().zip(&starts[..pixels.len()]) {
                    *row = start.wrapping_add(taps[tap]).cast_const();
                }
            }
            Self::Normalized {
                y,
                window,
                channels,
                ..
            } => {
                let (ky, kx) = (tap / window.kernel, tap % window.kernel);
                let (height, width) = (out.height, out.width);
                let channel = channels.start(*panel) * size_of::<f32>();
                for (row, m) in rows.iter_mut().zip(pixels.clone()) {
                    let (n, oy, ox) = (m / (height * width), m / width % height, m % width);
                    let inside = window.input(oy, ky, y.height);
                    let inside = inside.zip(window.input(ox, kx, y.width));
                    *row = inside.map_or(ptr::null(), |(iy, ix)| {
                        let at = y.pixel_bytes(n, iy, ix) + channel;
                        arena.wrapping_add(at).cast::<f32>().cast_const()
                    });
                }
            }
        }
    }
}
