//! A convolution layer: the loops over its blocks, panels and tiles.
//!
//! ```text
//! for each block of up to MAX_ROWS output pixels      (shared out among the threads)
//!   for each block of panels of NR channels           (shared out if pixels are few)
//!     for each panel                                  its weights stay in L1 or L2
//!       for each tile of up to MR pixels              tile.rs: registers
//! ```
//!
//! K is never split, so each output is summed in one order, whatever the shares are.

use std::ops::Range;
use std::ptr;

use super::grid::{Grid, MAX_ROWS};
use super::kernels::ConvKernels;
use super::source::{MAX_SOURCES, Source, Walk};
use super::tile::{Segment, TileArgs};
use crate::kernels::view::{LINE, View};

/// Distances of inputs, output and weights from the places in a [`Conv`], in elements: for products
/// of the same shape that run one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shift {
    /// Of every source.
    pub input: usize,
    /// Of the output.
    pub out: usize,
    /// Of the packed weights.
    pub weights: usize,
}

/// A convolution laid out by the plan: `out = relu(bias + Σ sources + residual)`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// The inputs, in the order in which they are summed.
    pub sources: Vec<Source>,
    /// The start of the packed weights in the network's weights.
    pub weights: usize,
    /// Added before ReLU; it may be at the same place as `out`.
    pub residual: Option<View>,
    /// Makes negative results zero.
    pub relu: bool,
    /// The output's place; its border is zeroed too.
    pub out: View,
    /// The items of work.
    pub grid: Grid,
}

impl Conv {
    /// Output pixels of all images.
    pub fn m(&self) -> usize {
        self.out.batch * self.out.height * self.out.width
    }

    /// Elements of a window over all sources.
    pub fn k(&self) -> usize {
        self.sources.iter().map(Source::k).sum()
    }

    /// Multiply-accumulates.
    pub fn macs(&self) -> usize {
        self.m() * self.k() * self.out.channels
    }

    /// Items that may run in any order, on any thread: the grid's, then each image's border.
    pub fn items(&self) -> usize {
        self.grid.items() + self.out.border_items()
    }

    /// Does one item.
    ///
    /// # Safety
    /// The plan's views lie inside `arena`, and no two tensors that are alive at this step
    /// overlap, but for `residual` and `out`; `weights` holds the packed panels. All threads are
    /// past the steps before, and each item is done by one thread.
    pub unsafe fn run_item(
        &self,
        item: usize,
        arena: *mut f32,
        weights: &[f32],
        kernels: &ConvKernels,
    ) {
        if item < self.grid.items() {
            // SAFETY: the caller's.
            unsafe { self.run_block(item, arena, weights, kernels, Shift::default()) };
        } else {
            // SAFETY: the border of one image of `out`, which no other item touches.
            unsafe { self.out.zero_border(item - self.grid.items(), arena) };
        }
    }

    /// Does one item of the grid, on tensors that lie `shift` away from the views.
    ///
    /// # Safety
    /// As for [`Conv::run_item`]. A residual does not shift.
    pub(in crate::kernels) unsafe fn run_block(
        &self,
        item: usize,
        arena: *mut f32,
        weights: &[f32],
        kernels: &ConvKernels,
        shift: Shift,
    ) {
        let (nr, grid) = (kernels.nr(), &self.grid);
        let (row_block, panel_block) = (item / grid.panel_blocks, item % grid.panel_blocks);
        let first_row = row_block * grid.rows;
        let rows = grid.rows.min(self.m() - first_row);
        let panel_len = nr * (1 + self.k());
        let channels = self.out.channels;
        let first_panel = panel_block * grid.panels;
        let panels = first_panel..(first_panel + grid.panels).min(channels.div_ceil(nr));
        let weights = &weights[self.weights + shift.weights..][..panels.end * panel_len];
        assert!(rows <= MAX_ROWS && self.sources.len() <= MAX_SOURCES);

        let shifted = |mut walk: Walk, shift: usize| {
            walk.start += shift;
            walk
        };
        let mut inputs = [[ptr::null_mut(); MAX_ROWS]; MAX_SOURCES];
        for (input, source) in inputs.iter_mut().zip(&self.sources) {
            let walk = shifted(source.walk(), shift.input);
            walk.fill(&self.out, first_row, arena, &mut input[..rows]);
        }
        let mut out = [ptr::null_mut(); MAX_ROWS];
        shifted(Walk::over(&self.out), shift.out).fill(
            &self.out,
            first_row,
            arena,
            &mut out[..rows],
        );
        let mut residual = [ptr::null_mut(); MAX_ROWS];
        if let Some(view) = &self.residual {
            Walk::over(view).fill(&self.out, first_row, arena, &mut residual[..rows]);
        }

        let segment = |i: usize, tile: &Range<usize>, panel: usize| {
            let source = &self.sources[i.min(self.sources.len() - 1)];
            Segment {
                rows: &inputs[i][tile.clone()],
                taps: &source.taps[panel.min(source.taps.len() - 1)],
                len: source.tap_len,
            }
        };
        for panel in panels {
            let packed = weights[panel * panel_len..].as_ptr();
            for (i, tile) in tiles(rows, kernels.mr()).enumerate() {
                let (ahead, ahead_lines) = ahead(i, rows.div_ceil(kernels.mr()), panel_len, nr);
                let segments: [Segment; MAX_SOURCES] =
                    std::array::from_fn(|source| segment(source, &tile, panel));
                let args = TileArgs {
                    segments: &segments[..self.sources.len()],
                    panel: packed,
                    out: &out[tile.clone()],
                    residual: self.residual.map(|_| &residual[tile.clone()]),
                    channel: panel * nr,
                    channels: nr.min(channels - panel * nr),
                    relu: self.relu,
                    ahead: packed.wrapping_add(ahead),
                    ahead_lines,
                };
                // SAFETY: `kernels` proves the tier; the slices have the tile's rows; the windows
                // lie inside their views, borders included, and those inside the arena.
                unsafe { kernels.tiles[tile.len() - 1](&args) };
            }
        }
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
fn ahead(i: usize, tiles: usize, panel_len: usize, nr: usize) -> (usize, usize) {
    let sharers = tiles.min(AHEAD_TILES);
    if i >= sharers {
        return (0, 0);
    }
    let lines = (4 * nr / LINE).div_ceil(sharers);
    (panel_len + i * panel_len / sharers, lines)
}

/// Cuts `rows` into the fewest tiles of at most `mr` rows, as even as can be: a tile of two rows
/// would wait for each of its few accumulators.
fn tiles(rows: usize, mr: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(mr);
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}
