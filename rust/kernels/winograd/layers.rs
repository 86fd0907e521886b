//! The three steps of a Winograd layer, as the plan has laid them out.

use std::ops::Range;

use super::TileSize;
use super::tile::{InputTileArgs, OutputTileArgs};
use crate::kernels::KernelTable;
use crate::kernels::conv::{Conv, Shift};
use crate::kernels::view::View;

/// A run of tiles, counted over all images, row by row.
#[derive(Clone, Debug)]
pub struct TileBlock {
    /// The size of the tiles.
    pub size: TileSize,
    /// Which tiles.
    pub tiles: Range<usize>,
    /// Tiles of an item of work.
    pub tiles_per_item: usize,
}

/// A tile's place: image, first output row, first output column.
struct Place {
    n: usize,
    y: usize,
    x: usize,
}

impl TileBlock {
    /// Items of work.
    fn items(&self) -> usize {
        self.tiles.len().div_ceil(self.tiles_per_item)
    }

    /// The tiles of an item, as (place in the block, place in the images of `out`'s size).
    fn item<'a>(&'a self, item: usize, out: &'a View) -> impl Iterator<Item = (usize, Place)> + 'a {
        let m = self.size.outputs();
        let (down, across) = (out.height.div_ceil(m), out.width.div_ceil(m));
        let first = item * self.tiles_per_item;
        (first..(first + self.tiles_per_item).min(self.tiles.len())).map(move |i| {
            let tile = self.tiles.start + i;
            let place = Place {
                n: tile / (down * across),
                y: tile / across % down * m,
                x: tile % across * m,
            };
            (i, place)
        })
    }
}

/// Step one: `V = Bᵀ d B`.
#[derive(Clone, Debug)]
pub struct TransformInput {
    /// The tiles.
    pub block: TileBlock,
    /// Where the input lies, with a border of at least 1.
    pub input: View,
    /// Where V lies: `[points, 1, tiles of the block, in_channels]`.
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
    pub unsafe fn run_item(&self, item: usize, arena: *mut f32, table: &KernelTable) {
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
                (table.winograd(self.block.size).input)(&InputTileArgs {
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
    /// How far the next point's tensors lie from one point's.
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
        table: &KernelTable,
    ) {
        let (point, item) = (item / self.product.items(), item % self.product.items());
        let shift = Shift {
            input: point * self.to_next_point.input,
            out: point * self.to_next_point.out,
            weights: point * self.to_next_point.weights,
        };
        // SAFETY: the caller's.
        unsafe { self.product.run_block(item, arena, weights, table, shift) };
    }
}

/// Step three: `out = relu(Aᵀ p A + bias + residual)`.
#[derive(Clone, Debug)]
pub struct TransformOutput {
    /// The tiles.
    pub block: TileBlock,
    /// Where P lies: `[points, 1, tiles of the block, out_channels]`.
    pub p: View,
    /// Where the biases start in the network's weights.
    pub bias: usize,
    /// Where the output lies.
    pub out: View,
    /// Whether what lies there already is added.
    pub residual: bool,
    /// Whether negative results become zero.
    pub relu: bool,
    /// Whether this is the layer's last block, which zeroes the output's border.
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
        table: &KernelTable,
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
                (table.winograd(self.block.size).output)(&OutputTileArgs {
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
