//! The three steps of a Winograd layer, laid out by the plan.

use super::block::{Place, TileBlock};
use super::kernels::WinogradKernels;
use super::tile::{InputTileArgs, OutputTileArgs};
use crate::kernels::conv::kernels::ConvKernels;
use crate::kernels::conv::layer::{Conv, Shift};
use crate::kernels::view::View;

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
    pub unsafe fn run_item(&self, item: usize, arena: *mut f32, kernels: &WinogradKernels) {
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
            let first = self.input.pixel(n, y, x) - self.input.row_pitch - self.input.pixel_stride;
            // SAFETY: the views lie inside the arena, their pixels have room for whole vectors, as
            // the plan asserts; rows and columns end with the border.
            unsafe {
                (kernels.of_size(self.block.size).input)(&InputTileArgs {
                    input: arena.add(first),
                    row_pitch: self.input.row_pitch,
                    pixel_stride: self.input.pixel_stride,
                    rows: side.min(height + 2 - y),
                    columns: side.min(width + 2 - x),
                    v: arena.add(self.v.pixel(0, 0, i)),
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
    /// As for [`Conv::run_item`], at each point.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut f32,
        weights: &[f32],
        kernels: &ConvKernels,
    ) {
        let (point, item) = (item / self.product.items(), item % self.product.items());
        let shift = Shift {
            input: point * self.to_next_point.input,
            out: point * self.to_next_point.out,
            weights: point * self.to_next_point.weights,
        };
        // SAFETY: the caller's.
        unsafe { self.product.run_block(item, arena, weights, kernels, shift) };
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
    pub bias: usize,
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
        arena: *mut f32,
        weights: &[f32],
        kernels: &WinogradKernels,
    ) {
        if item >= self.block.items() {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - self.block.items(), arena) };
            return;
        }
        let bias = &weights[self.bias..][..self.out.channels.next_multiple_of(16)];
        let side = self.block.size.outputs();
        for (i, Place { n, y, x }) in self.block.item(item, &self.out) {
            // SAFETY: the views lie inside the arena, their pixels have room for whole vectors, as
            // the plan asserts; rows and columns end with the image.
            unsafe {
                (kernels.of_size(self.block.size).output)(&OutputTileArgs {
                    p: arena.add(self.p.pixel(0, 0, i)),
                    point_stride: self.p.image_stride,
                    bias: bias.as_ptr(),
                    out: arena.add(self.out.pixel(n, y, x)),
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
