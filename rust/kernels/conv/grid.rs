//! The items of work that a convolution is cut into.

/// The most output pixels of a block: their row pointers lie on the stack.
pub(super) const MAX_ROWS: usize = 256;

/// A layer's output, cut into items of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Output pixels of an item.
    pub rows: usize,
    /// Blocks of that many pixels.
    pub row_blocks: usize,
    /// Panels of an item.
    pub panels: usize,
    /// Blocks of that many panels.
    pub panel_blocks: usize,
}

impl Grid {
    /// Cuts `m` output pixels by `panels` panels for tiles of up to `mr` pixels into about
    /// `wanted` items or more: blocks of pixels first, so that a thread finds in its cache what it
    /// wrote in the layer before; then panels, if there are too few pixels; then smaller blocks.
    pub fn choose(m: usize, panels: usize, mr: usize, wanted: usize) -> Self {
        Self::within(MAX_ROWS, m, panels, mr, wanted)
    }

    /// The same with blocks of at most `rows` pixels, or of one tile.
    pub fn within(rows: usize, m: usize, panels: usize, mr: usize, wanted: usize) -> Self {
        let tiles = m.div_ceil(mr);
        let mut row_blocks = tiles.div_ceil((rows.min(MAX_ROWS) / mr).max(1));
        let mut panel_blocks = wanted.div_ceil(row_blocks).min(panels);
        row_blocks = wanted.div_ceil(panel_blocks).min(tiles).max(row_blocks);
        // Round to whole tiles and panels, then count the blocks that are left.
        let rows = tiles.div_ceil(row_blocks) * mr;
        let panels_each = panels.div_ceil(panel_blocks);
        row_blocks = m.div_ceil(rows);
        panel_blocks = panels.div_ceil(panels_each);
        Self {
            rows,
            row_blocks,
            panels: panels_each,
            panel_blocks,
        }
    }

    /// Items of work.
    pub fn items(&self) -> usize {
        self.row_blocks * self.panel_blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_are_cut_first_then_panels_then_pixels_again() {
        for ([m, panels, mr, wanted], [rows, row_blocks, panels_each, panel_blocks]) in [
            // One item if that is all that is wanted and the pixels fit a block.
            ([100, 4, 10, 1], [100, 1, 4, 1]),
            // Many pixels: blocks of as many whole tiles as fit.
            ([12_544, 2, 14, 1], [252, 50, 2, 1]),
            // Few pixels: panels too.
            ([49, 16, 14, 8], [56, 1, 2, 8]),
            // Few of both: single tiles.
            ([49, 2, 14, 8], [14, 4, 1, 2]),
            // Exactly as many as wanted.
            ([40, 4, 10, 4], [40, 1, 1, 4]),
            ([40, 4, 10, 8], [20, 2, 1, 4]),
        ] {
            let grid = Grid::choose(m, panels, mr, wanted);
            let expected = Grid {
                rows,
                row_blocks,
                panels: panels_each,
                panel_blocks,
            };
            assert_eq!(grid, expected, "{m} {panels} {mr} {wanted}");
            assert_eq!(grid.items(), row_blocks * panel_blocks);
        }
    }
}
