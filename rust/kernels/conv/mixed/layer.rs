//! A layer's items of work in bf16: an item's windows are rounded once, for all of its panels.

use std::ptr;

use super::kernels::MixedKernels;
use super::rows::{RowsArgs, row_stride};
use super::tile::TileArgs;
use crate::kernels::conv::f32::{Finish, ahead, panel_len};
use crate::kernels::conv::grid::{Grid, MAX_ROWS};
use crate::kernels::conv::layer::{Conv, Shift, tiles};
use crate::kernels::conv::source::Walk;

/// Bytes of an item's windows, at most, unless a tile has more: they stay in the second-level cache.
const WINDOWS_BYTES: usize = 256 << 10;

impl MixedKernels {
    /// The items of a convolution of `m` pixels and windows of `k` values, about `wanted` or more.
    pub fn grid(m: usize, k: usize, panels: usize, mr: usize, wanted: usize) -> Grid {
        let rows = WINDOWS_BYTES / (row_stride(k) * size_of::<u32>());
        Grid::within(rows, m, panels, mr, wanted)
    }

    /// Bytes of a worker's scratch memory for `conv`.
    pub fn scratch_bytes(conv: &Conv) -> usize {
        conv.grid.rows.min(conv.m()) * row_stride(conv.k()) * size_of::<u32>()
    }

    /// Does one item of `conv`.
    ///
    /// # Safety
    /// As for the f32 kernels' `run_item`; `weights` holds the layer's bf16 panels, and `scratch` is
    /// [`scratch_bytes`](Self::scratch_bytes) bytes of this worker, aligned to a cache line.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels.
    pub unsafe fn run_item(
        &self,
        conv: &Conv,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
        scratch: *mut u8,
    ) {
        // SAFETY: the caller keeps the same contract; the border is that of one image.
        unsafe {
            match item.checked_sub(conv.grid.items()) {
                None => self.run_block(conv, item, arena, weights, Shift::default(), scratch),
                Some(image) => conv.out.zero_border(image, arena),
            }
        }
    }

    /// Does one item of the grid, on tensors that lie `shift` away from the views.
    ///
    /// # Safety
    /// As for [`MixedKernels::run_item`]. A residual does not shift.
    ///
    /// # Panics
    /// If the panels do not all read the same channels of one source.
    pub(in crate::kernels) unsafe fn run_block(
        &self,
        conv: &Conv,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
        shift: Shift,
        scratch: *mut u8,
    ) {
        let [source] = &conv.sources[..] else {
            panic!("expected one source")
        };
        assert_eq!(source.taps.len(), 1, "groups");
        let (shape, k) = (self.tile(), source.k());
        let (nr, pairs, stride) = (shape.nr, k.div_ceil(2), row_stride(k));
        let panel_len = panel_len(pairs, nr);
        let panels = conv.panels(item, shape);
        let start = conv.weights_bytes + shift.weights_bytes;
        let packed = &weights[start..][..panels.end * panel_len * size_of::<u32>()];
        let packed: &[u32] = bytemuck::cast_slice(packed);

        let first_row = item / conv.grid.panel_blocks * conv.grid.rows;
        let rows = conv.grid.rows.min(conv.m() - first_row);
        assert!(rows <= MAX_ROWS);
        let mut inputs = [ptr::null_mut::<f32>(); MAX_ROWS];
        let walk = source.walk().shifted(shift.input_bytes);
        walk.fill(&conv.out, first_row, arena, &mut inputs[..rows]);
        let mut out = [ptr::null_mut::<f32>(); MAX_ROWS];
        let walk = Walk::over(&conv.out).shifted(shift.out_bytes);
        walk.fill(&conv.out, first_row, arena, &mut out[..rows]);
        let mut residual = [ptr::null_mut::<f32>(); MAX_ROWS];
        if let Some(view) = &conv.residual {
            Walk::over(view).fill(&conv.out, first_row, arena, &mut residual[..rows]);
        }
        let windows = scratch.cast::<u32>();
        // SAFETY: `self` proves the instructions; windows lie inside their view, and the scratch has their rows.
        unsafe {
            (self.rows)(&RowsArgs {
                rows: &inputs[..rows],
                taps: &source.taps[0],
                len: source.tap_len,
                out: windows,
                stride,
            });
        }
        let count = rows.div_ceil(shape.mr);
        for panel in panels {
            let weights = packed[panel * panel_len..].as_ptr();
            let channel = panel * nr;
            for (index, tile) in tiles(rows, count).enumerate() {
                let (from, ahead_lines) = ahead(index, count, panel_len, nr);
                let args = TileArgs {
                    rows: windows.wrapping_add(tile.start * stride).cast_const(),
                    stride,
                    pairs,
                    panel: weights,
                    finish: Finish {
                        out: &out[tile.clone()],
                        residual: conv.residual.map(|_| &residual[tile.clone()]),
                        channel,
                        channels: nr.min(conv.out.channels - channel),
                        relu: conv.relu,
                    },
                    ahead: weights.wrapping_add(from),
                    ahead_lines,
                };
                // SAFETY: `self` proves the instructions; the rows and the panel are whole, and the output's rows
                // lie inside its view.
                unsafe { self.tiles[tile.len() - 1](&args) };
            }
        }
    }
}
