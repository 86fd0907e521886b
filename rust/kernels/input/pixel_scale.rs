//! The input of an int8 network: pixels as they are, and a mark for those of the border.

use super::pixels::Pixels;
use crate::kernels::view::View;
use crate::simd::{Activation, MOST};

/// Channels of an int8 network's input come in whole groups of so many.
const GROUP: usize = 4;

/// The channels of a pixel and of the border's mark, in whole groups.
pub fn quantized_channels(channels: usize) -> usize {
    (channels + 1).next_multiple_of(GROUP)
}

/// The way from images to an int8 network's input.
///
/// A convolution's padding is zero after normalisation: the mean before it, which is no whole number. So the border
/// holds the nearest pixel, and in one more channel a mark, whose weights stand for the rest.
#[derive(Clone)]
pub struct PixelScale {
    /// `255 · std` and `255 · mean` of each channel.
    factors: Vec<[f32; 2]>,
    /// The border's value of each channel.
    border: Vec<u8>,
    /// The means, in pixels.
    means: Vec<f64>,
    /// The mark of the border.
    mark: u8,
}

impl PixelScale {
    /// For channels with these means and standard deviations, in units of the full range 0 to 1.
    pub fn new(mean: &[f32], std: &[f32]) -> Self {
        let means: Vec<f64> = mean.iter().map(|&mean| 255.0 * f64::from(mean)).collect();
        let factor = |(&mean, &std): (&f64, &f32)| [(255.0 * f64::from(std)) as f32, mean as f32];
        Self {
            factors: means.iter().zip(std).map(factor).collect(),
            border: means
                .iter()
                .map(|mean| mean.round_ties_even().clamp(0.0, 255.0) as u8)
                .collect(),
            // At least half the number of channels: the weights of the mark then fit 8 bits.
            mark: mean.len().div_ceil(2).clamp(2, 255) as u8,
            means,
        }
    }

    /// The means in pixels.
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    /// For each channel what its border value lacks of the mean.
    pub fn rests(&self) -> impl Iterator<Item = f64> {
        let both = self.means.iter().zip(&self.border);
        both.map(|(mean, &border)| mean - f64::from(border))
    }

    /// The mark of the border.
    pub fn mark(&self) -> f64 {
        f64::from(self.mark)
    }

    /// Writes row `y` of image `n` of `view`, without its border, from a row of the caller's images.
    ///
    /// # Safety
    /// The view is a tensor of `A` with [`quantized_channels`] channels and lies inside `arena`; no other thread uses
    /// this row meanwhile.
    pub(super) unsafe fn write_row<A: Activation>(
        &self,
        row: Pixels,
        view: &View,
        [n, y]: [usize; 2],
        arena: *mut u8,
    ) {
        let channels = self.factors.len();
        let len = view.width * view.channels;
        // SAFETY: one row of the tensor, whose pixels lie side by side.
        let out = unsafe {
            let start = view.pixel_ptr::<A>(arena, n, y, 0);
            std::slice::from_raw_parts_mut(start, len)
        };
        let places = out.chunks_exact_mut(view.channels);
        match row {
            Pixels::U8(row, _) => {
                for (place, pixel) in places.zip(row.chunks_exact(channels)) {
                    place[channels..].fill(A::zeroed());
                    for (place, &value) in place.iter_mut().zip(pixel) {
                        *place = A::of(f32::from(value));
                    }
                }
            }
            Pixels::F32(row) => {
                for (place, pixel) in places.zip(row.chunks_exact(channels)) {
                    place[channels..].fill(A::zeroed());
                    let factors = pixel.iter().zip(&self.factors);
                    for (place, (&x, &[std, mean])) in place.iter_mut().zip(factors) {
                        // The conversion makes 0 of NaN.
                        let value = (x * std + mean).clamp(0.0, MOST);
                        *place = A::of(value.round_ties_even());
                    }
                }
            }
        }
    }

    /// Writes the border of image `n` of `view`.
    ///
    /// # Safety
    /// The view is a tensor of `A` with [`quantized_channels`] channels and lies inside `arena`; no other thread uses
    /// this border meanwhile.
    pub(super) unsafe fn write_border<A: Activation>(&self, view: &View, n: usize, arena: *mut u8) {
        let (rows, columns) = (view.height + 2 * view.border, view.width + 2 * view.border);
        let inside = view.border..view.border + view.height;
        // SAFETY: the caller guarantees the image.
        unsafe {
            view.zero_border(n, arena);
            let image = arena.add(view.offset_bytes + n * view.image_stride_bytes());
            for y in 0..rows {
                // A row of the picture has a border on its left and on its right.
                let left = if inside.contains(&y) {
                    view.border
                } else {
                    columns
                };
                let right = left.max(view.border + view.width)..columns;
                for x in (0..left).chain(right) {
                    let pixel = image
                        .cast::<A>()
                        .add(y * view.row_pitch + x * view.pixel_stride);
                    for (c, &value) in self.border.iter().enumerate() {
                        *pixel.add(c) = A::of(f32::from(value));
                    }
                    *pixel.add(self.border.len()) = A::of(f32::from(self.mark));
                }
            }
        }
    }
}
