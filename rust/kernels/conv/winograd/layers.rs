//! The three steps of a Winograd layer in f32, laid out by the plan.

use super::block::{Place, TileBlock};
use super::kernels::WinogradKernels;
use super::tile::{InputTileArgs, OutputTileArgs};
use crate::kernels::conv::f32::ConvKernels;
use crate::kernels::conv::layer::{Conv, Shift};
use crate::kernels::conv::mixed::MixedKernels;
use crate::kernels::view::{View, line_of};

/// Step one: `V = Bᵀ d B`.
#[derive(Clone, Debug)]
pub struct TransformInput {
    /// The tiles.
    pub block: TileBlock,
    /// The input's place, with a border of at least 1.
    pub input: View,
    /// V's place: `[points, 1, tiles of the block, in_channels]`.
    pub v: View,
}

impl TransformInput {
    /// Items of work.
    pub fn items(&self) -> usize {
        self.block.items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The views lie inside `arena` and do not overlap; all threads are past the steps before,
    /// and each item is done by one thread.
    pub unsafe fn run_item(&self, item: usize, arena: *mut u8, kernels: &WinogradKernels) {
        let View {
            height,
            width,
            channels,
            ..
        } = self.input;
        let side = self.block.size.inputs();
        // With stride 1 and padding 1 the output is as large as the input, and a tile starts one
        // row above and one column left of its outputs; below and right there is one more.
        for (i, Place { n, y, x }) in self.block.item(item, &self.input) {
            let corner = self.input.row_pitch + self.input.pixel_stride;
            // SAFETY: the views lie inside the arena, their pixels have room for whole vectors, as
            // the plan asserts; rows and columns end with the border.
            unsafe {
                (kernels.of_size(self.block.size).input)(&InputTileArgs {
                    input: self.input.pixel_ptr::<f32>(arena, n, y, x).sub(corner),
                    row_pitch: self.input.row_pitch,
                    pixel_stride: self.input.pixel_stride,
                    rows: side.min(height + 2 - y),
                    columns: side.min(width + 2 - x),
                    v: self.v.pixel_ptr(arena, 0, 0, i),
                    point_stride: self.v.image_stride,
                    channels,
                });
            }
        }
    }
}

/// Step two: at each point `P = V · U`.
#[derive(Clone, Debug)]
pub struct PointProducts {
    /// The product at point 0, as a 1x1 convolution over the tiles.
    pub product: Conv,
    /// The number of points.
    pub points: usize,
    /// The distance from one point's tensors to the next point's.
    pub to_next_point: Shift,
}

impl PointProducts {
    /// Items of work.
    pub fn items(&self) -> usize {
        self.points * self.product.items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`ConvKernels::run_item`], at each point.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
        kernels: &ConvKernels,
    ) {
        let (shift, item) = self.at(item);
        // SAFETY: the caller keeps the same contract.
        unsafe { kernels.run_block(&self.product, item, arena, weights, shift) };
    }

    /// Does one item in bf16.
    ///
    /// # Safety
    /// As for [`MixedKernels::run_item`], at each point.
    pub unsafe fn run_item_bf16(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
        scratch: *mut u8,
        kernels: &MixedKernels,
    ) {
        let (shift, item) = self.at(item);
        // SAFETY: the caller keeps the same contract.
        unsafe { kernels.run_block(&self.product, item, arena, weights, shift, scratch) };
    }

    /// The place of an item's point, and the product's item.
    fn at(&self, item: usize) -> (Shift, usize) {
        let (point, item) = (item / self.product.items(), item % self.product.items());
        let shift = Shift {
            input_bytes: point * self.to_next_point.input_bytes,
            out_bytes: point * self.to_next_point.out_bytes,
            weights_bytes: point * self.to_next_point.weights_bytes,
        };
        (shift, item)
    }
}

/// Step three: `out = relu(Aᵀ p A + bias + residual)`.
#[derive(Clone, Debug)]
pub struct TransformOutput {
    /// The tiles.
    pub block: TileBlock,
    /// P's place: `[points, 1, tiles of the block, out_channels]`.
    pub p: View,
    /// The start of the biases in the network's weights.
    pub bias_bytes: usize,
    /// The output's place.
    pub out: View,
    /// Adds the values that are already there.
    pub residual: bool,
    /// Makes negative results zero.
    pub relu: bool,
    /// True for the layer's last block, which zeroes the output's border.
    pub is_last: bool,
}

impl TransformOutput {
    /// Items of work.
    pub fn items(&self) -> usize {
        let borders = if self.is_last {
            self.out.border_items()
        } else {
            0
        };
        self.block.items() + borders
    }

    /// Does one item.
    ///
    /// # Safety
    /// As for [`TransformInput::run_item`].
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
        kernels: &WinogradKernels,
    ) {
        if item >= self.block.items() {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - self.block.items(), arena) };
            return;
        }
        let bias_len = self.out.channels.next_multiple_of(line_of::<f32>());
        let bias = &weights[self.bias_bytes..][..bias_len * size_of::<f32>()];
        let bias: &[f32] = bytemuck::cast_slice(bias);
        let side = self.block.size.outputs();
        for (i, Place { n, y, x }) in self.block.item(item, &self.out) {
            // SAFETY: the views lie inside the arena, their pixels have room for whole vectors, as
            // the plan asserts; rows and columns end with the image.
            unsafe {
                (kernels.of_size(self.block.size).output)(&OutputTileArgs {
                    p: self.p.pixel_ptr::<f32>(arena, 0, 0, i),
                    point_stride: self.p.image_stride,
                    bias: bias.as_ptr(),
                    out: self.out.pixel_ptr(arena, n, y, x),
                    row_pitch: self.out.row_pitch,
                    pixel_stride: self.out.pixel_stride,
                    rows: side.min(self.out.height - y),
                    columns: side.min(self.out.width - x),
                    channels: self.out.channels,
                    residual: self.residual,
                    relu: self.relu,
                });
            }
        }
    }
}
