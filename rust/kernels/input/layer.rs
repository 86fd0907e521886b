//! The input layer: pixels into the first convolution's padded tensor.

use half::bf16;

use super::pixel_scale::PixelScale;
use super::pixels::Pixels;
use crate::kernels::view::View;
use crate::simd::Activation;

/// Copies the caller's images into a tensor with a border, laid out by the plan: normalised in f32, or in int8 as
/// pixels.
#[derive(Clone, Debug)]
pub struct InputLayer {
    /// The copy's place.
    pub out: View,
    /// The index of its first image among the caller's images.
    pub first_image: usize,
}

impl InputLayer {
    /// Rows of an item.
    const ROWS: usize = 16;

    fn blocks(&self) -> usize {
        self.out.height.div_ceil(Self::ROWS)
    }

    /// Items of work: blocks of rows, then each image's border.
    pub fn items(&self) -> usize {
        self.out.batch * (self.blocks() + 1)
    }

    /// Does one item in int8.
    ///
    /// # Safety
    /// The view is a tensor of `A` with the channels of an int8 network's input, and lies inside `arena`; each item is
    /// done by one thread.
    pub unsafe fn run_int_item<A: Activation>(
        &self,
        item: usize,
        pixels: Pixels,
        scale: &PixelScale,
        arena: *mut u8,
    ) {
        let View {
            batch,
            height,
            width,
            ..
        } = self.out;
        let blocks = self.blocks();
        if let Some(image) = item.checked_sub(batch * blocks) {
            // SAFETY: the border of one image, which no other item touches.
            unsafe { scale.write_border::<A>(&self.out, image, arena) };
            return;
        }
        let (n, block) = (item / blocks, item % blocks);
        let row_len = width * scale.means().len();
        for y in block * Self::ROWS..((block + 1) * Self::ROWS).min(height) {
            let start = ((self.first_image + n) * height + y) * row_len;
            let row = pixels.slice(start..start + row_len);
            // SAFETY: one row of the tensor, which no other item touches.
            unsafe { scale.write_row::<A>(row, &self.out, [n, y], arena) };
        }
    }

    /// Does one item in bf16: as in f32, with the results rounded, and zeros after an odd number of channels.
    ///
    /// # Safety
    /// The view is a bf16 tensor and lies inside `arena`; each item is done by one thread.
    pub unsafe fn run_bf16_item(&self, item: usize, pixels: Pixels, arena: *mut u8) {
        let View {
            batch,
            height,
            width,
            channels,
            ..
        } = self.out;
        let blocks = self.blocks();
        if let Some(image) = item.checked_sub(batch * blocks) {
            // SAFETY: the border of one image, which no other item touches.
            unsafe { self.out.zero_border(image, arena) };
            return;
        }
        let (n, block) = (item / blocks, item % blocks);
        let row_len = width * channels;
        let mut values = vec![0.0; row_len];
        for y in block * Self::ROWS..((block + 1) * Self::ROWS).min(height) {
            let start = ((self.first_image + n) * height + y) * row_len;
            match pixels.slice(start..start + row_len) {
                Pixels::F32(row) => values.copy_from_slice(row),
                Pixels::U8(row, normalization) => normalization.apply(row, &mut values),
            }
            let stride = self.out.pixel_stride;
            // SAFETY: one row of the tensor, inside the arena, which no other item touches.
            let out = unsafe {
                let first = self.out.pixel_ptr::<bf16>(arena, n, y, 0);
                std::slice::from_raw_parts_mut(first, width * stride)
            };
            let row = out.chunks_exact_mut(stride);
            for (places, pixel) in row.zip(values.chunks_exact(channels)) {
                let (inside, beyond) = places.split_at_mut(channels);
                for (place, &value) in inside.iter_mut().zip(pixel) {
                    *place = bf16::from_f32(value);
                }
                beyond.fill(bf16::ZERO);
            }
        }
    }

    /// Does one item.
    ///
    /// # Safety
    /// The view is an f32 tensor and lies inside `arena`; each item is done by one thread.
    pub unsafe fn run_item(&self, item: usize, pixels: Pixels, arena: *mut u8) {
        let View {
            batch,
            height,
            width,
            channels,
            ..
        } = self.out;
        let blocks = self.blocks();
        if item >= batch * blocks {
            // SAFETY: the border of one image, which no other item touches.
            unsafe { self.out.zero_border(item - batch * blocks, arena) };
            return;
        }
        let (n, block) = (item / blocks, item % blocks);
        let row_len = width * channels;
        for y in block * Self::ROWS..((block + 1) * Self::ROWS).min(height) {
            let start = ((self.first_image + n) * height + y) * row_len;
            // SAFETY: one row of the tensor, inside the arena, which no other item touches.
            let out = unsafe {
                std::slice::from_raw_parts_mut(self.out.pixel_ptr::<f32>(arena, n, y, 0), row_len)
            };
            match pixels.slice(start..start + row_len) {
                Pixels::F32(row) => out.copy_from_slice(row),
                Pixels::U8(row, normalization) => normalization.apply(row, out),
            }
        }
    }
}
