//! A layer's items of work in f32: the loops of [`Conv`] around the tile routines.

use super::kernels::ConvKernels;
use super::pack::panel_len;
use super::tile::{Finish, TileArgs};
use crate::kernels::conv::layer::{Conv, Shift};
use crate::kernels::conv::tile::Tile;
use crate::kernels::view::line_of;

impl ConvKernels {
    /// Does one item of `conv`.
    ///
    /// # Safety
    /// The plan's views lie inside `arena`, and no two tensors that are alive at this step
    /// overlap, but for the residual and the output; `weights` holds the packed panels. All
    /// threads are past the steps before, and each item is done by one thread.
    ///
    /// # Panics
    /// If `weights` ends before the layer's panels.
    pub unsafe fn run_item(&self, conv: &Conv, item: usize, arena: *mut u8, weights: &[u8]) {
        if item < conv.grid.items() {
            // SAFETY: the caller keeps the same contract.
            unsafe { self.run_block(conv, item, arena, weights, Shift::default()) };
        } else {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { conv.out.zero_border(item - conv.grid.items(), arena) };
        }
    }

    /// Does one item of the grid, on tensors that lie `shift` away from the views.
    ///
    /// # Safety
    /// As for [`ConvKernels::run_item`]. A residual does not shift.
    pub(in crate::kernels) unsafe fn run_block(
        &self,
        conv: &Conv,
        item: usize,
        arena: *mut u8,
        weights: &[u8],
        shift: Shift,
    ) {
        let (shape, channels) = (self.tile(), conv.out.channels);
        let nr = shape.nr;
        let panel_len = panel_len(conv.k(), nr);
        let panels = conv.panels(item, shape);
        let start = conv.weights_bytes + shift.weights_bytes;
        let packed = &weights[start..][..panels.end * panel_len * size_of::<f32>()];
        let packed: &[f32] = bytemuck::cast_slice(packed);

        conv.for_each_tile(item, arena, shape, shift, |tile: Tile<f32, f32>| {
            let panel = packed[tile.panel * panel_len..].as_ptr();
            let (ahead, ahead_lines) = ahead(tile.index, tile.count, panel_len, nr);
            let channel = tile.panel * nr;
            let args = TileArgs {
                segments: tile.segments,
                panel,
                finish: Finish {
                    out: tile.out,
                    residual: tile.residual,
                    channel,
                    channels: nr.min(channels - channel),
                    relu: conv.relu,
                },
                ahead: panel.wrapping_add(ahead),
                ahead_lines,
            };
            // SAFETY: `self` proves the tier; the slices have the tile's rows; the windows lie
            // inside their views, borders included, and those inside the arena.
            unsafe { self.tiles[tile.out.len() - 1](&args) };
        });
    }
}

/// The number of a panel's tiles that fetch the next panel.
const AHEAD_TILES: usize = 4;

/// The share of the next panel that tile `i` of `tiles` fetches: its start, counted from this panel,
/// and the cache lines for every four k.
///
/// If pixels are few, the weights are most of the traffic, and come from beyond the second-level
/// cache: a panel's first tile would wait for them. So the tiles before it share the fetching;
/// `cargo bench --bench conv -- layer4` shows what that is worth.
pub(in crate::kernels::conv) fn ahead(
    i: usize,
    tiles: usize,
    panel_len: usize,
    nr: usize,
) -> (usize, usize) {
    let sharers = tiles.min(AHEAD_TILES);
    if i >= sharers {
        return (0, 0);
    }
    let lines = (4 * nr / line_of::<f32>()).div_ceil(sharers);
    (panel_len + i * panel_len / sharers, lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each share begins where the one before it ends at the latest, and the last one ends with the panel.
    #[test]
    fn shares_fetch_the_whole_next_panel() {
        let line = line_of::<f32>();
        for (k, nr) in [(64, 32), (576, 32), (4608, 16), (256, 64)] {
            let panel_len = k * nr;
            for tiles in [1, 2, 3, AHEAD_TILES, AHEAD_TILES + 3] {
                let sharers = tiles.min(AHEAD_TILES);
                let mut fetched = panel_len;
                for i in 0..sharers {
                    let (start, lines) = ahead(i, tiles, panel_len, nr);
                    assert!(start <= fetched, "share {i} of {tiles} leaves a gap");
                    fetched = start + lines * line * k / 4;
                }
                assert!(fetched >= 2 * panel_len, "{tiles} tiles, k {k}");
                // Rounding to cache lines alone fetches anything twice.
                assert!(
                    fetched - panel_len <= panel_len + line * k / 4,
                    "{tiles} tiles, k {k}"
                );
            }
            assert_eq!(
                ahead(AHEAD_TILES, AHEAD_TILES + 1, panel_len, nr).1,
                0,
                "no sharer"
            );
        }
    }
}
