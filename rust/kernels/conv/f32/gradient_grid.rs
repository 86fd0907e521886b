//! The division of a weight gradient into items of work.

use super::pack::panel_len;

/// Rows of a block, of a pixel each, in bf16 of a pair: a panel of dy and a tile of windows stay in the first-level
/// cache.
pub(super) const ROWS: usize = 128;

/// The most pixels of a block.
pub(super) const PIXELS: usize = 2 * ROWS;

/// The tiles of k of an item, at most: their windows stay in the second-level cache.
const TILES: usize = 37;

/// The tiles of k of an item, at least, if it has as many.
const LEAST_TILES: usize = 4;

/// The panels of an item, at most.
const PANELS: usize = 4;

/// Items of a layer that parts are made for.
const ITEMS: usize = 64;

/// The most bytes of all parts' results.
const PARTS_BYTES: usize = 8 << 20;

/// A weight gradient as items of work: parts of the pixels, blocks of panels, blocks of k.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GradientGrid {
    pub(super) parts: usize,
    /// Pixels of a part.
    pub(super) rows: usize,
    /// Panels of a block.
    pub(super) panels: usize,
    pub(super) panel_blocks: usize,
    /// Values of k of a block.
    pub(super) k: usize,
    pub(super) k_blocks: usize,
}

impl GradientGrid {
    /// Parts by shapes alone; blocks of panels and of k, which leave sums as they are, for about `wanted` items
    /// or more.
    pub(super) fn choose(
        m: usize,
        k: usize,
        panels: usize,
        shape: [usize; 2],
        is_whole: bool,
        wanted: usize,
    ) -> Self {
        let [mr, nr] = shape;
        let k_blocks = k.div_ceil(TILES * mr);
        let each = if is_whole { PANELS.min(panels) } else { 1 };
        let panel_blocks = panels.div_ceil(each);
        let bytes = panels * panel_len(k, nr) * size_of::<f32>();
        // Parts of a few blocks of pixels at least: the sums of all are added up afterwards.
        let parts = (ITEMS.div_ceil(k_blocks * panel_blocks))
            .min(m.div_ceil(4 * ROWS))
            .min((PARTS_BYTES / bytes).max(1));
        let rows = m.div_ceil(parts).next_multiple_of(ROWS);
        let parts = m.div_ceil(rows);
        // More blocks of k first: for each of panels, windows are copied anew.
        let fewest = wanted.div_ceil(parts);
        let k_blocks = fewest
            .div_ceil(panel_blocks)
            .clamp(k_blocks, k.div_ceil(LEAST_TILES * mr).max(k_blocks));
        let k_each = k.div_ceil(k_blocks).next_multiple_of(mr);
        let k_blocks = k.div_ceil(k_each);
        let panel_blocks = fewest.div_ceil(k_blocks).clamp(panel_blocks, panels);
        let each = panels.div_ceil(panel_blocks);
        Self {
            parts,
            rows,
            panels: each,
            panel_blocks: panels.div_ceil(each),
            k: k_each,
            k_blocks,
        }
    }
}
