//! A layer's items of work in int8 and bf16: the loops of [`Conv`] around the tile routines.

use super::kernels::DotKernels;
use super::tile::{DotTile, TileArgs};
use crate::dtype::{Dtype, Element};
use crate::kernels::conv::f32::ahead;
use crate::kernels::conv::layer::{Conv, Shift};
use crate::kernels::conv::tile::Tile;

impl<A: Element> DotKernels<A> {
    /// Does one item of `conv`, whose results are activations of `A` or, after the last layer, f32.
    ///
    /// # Safety
    /// As for the f32 kernels' `run_item`.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels.
    pub unsafe fn run_item(&self, conv: &Conv, item: usize, arena: *mut u8, weights: &[u8]) {
        // SAFETY: the caller keeps the same contract; the border is that of one image.
        unsafe {
            match item.checked_sub(conv.grid.items()) {
                Some(image) => conv.out.zero_border(image, arena),
                None if conv.out.dtype == Dtype::F32 => {
                    self.run_block(self.f32_tiles, conv, item, arena, weights);
                }
                None => self.run_block(self.tiles, conv, item, arena, weights),
            }
        }
    }

    unsafe fn run_block<O: Element>(
        &self,
        tiles: &[DotTile<A, O>],
        conv: &Conv,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
    ) {
        let (shape, channels) = (self.tile(), conv.out.stored_channels());
        let (nr, panel_len) = (shape.nr, shape.panel_len(conv.k()));
        let panels = conv.panels(item, shape);
        let packed = &weights[conv.weights_bytes..][..panels.end * panel_len * size_of::<i32>()];
        let packed: &[i32] = bytemuck::cast_slice(packed);
        let shift = Shift::default();
        conv.for_each_tile(item, arena, shape, shift, |tile: Tile<A, O>| {
            let panel = packed[tile.panel * panel_len..].as_ptr();
            let (ahead, ahead_lines) = ahead(tile.index, tile.count, panel_len, nr);
            let channel = tile.panel * nr;
            let args = TileArgs {
                segments: tile.segments,
                panel,
                out: tile.out,
                residual: tile.residual,
                channel,
                channels: nr.min(channels - channel),
                relu: conv.relu,
                ahead: panel.wrapping_add(ahead),
                ahead_lines,
            };
            // SAFETY: `self` proves the instructions; the slices have the tile's rows; the windows lie inside
            // their views, borders included, and those inside the arena.
            unsafe { tiles[tile.out.len() - 1](&args) };
        });
    }
}
