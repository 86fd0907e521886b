//! A convolution layer: the loops over its blocks, panels and tiles.
//!
//! ```text
//! for each block of up to MAX_ROWS output pixels      (divided among the threads)
//!   for each block of panels of NR channels           (divided too if pixels are few)
//!     for each panel                                  its weights stay in L1 or L2
//!       for each tile of up to MR pixels              in registers: f32/tile.rs
//! ```
//!
//! K is never split, so each output is summed in one order, however the work is divided.

use std::ops::Range;
use std::ptr;

use super::grid::{Grid, MAX_ROWS};
use super::source::{MAX_SOURCES, Source, Walk};
use super::tile::{Segment, Tile};
use super::tile_shape::TileShape;
use crate::dtype::{Dtype, Element};
use crate::kernels::view::View;

/// Distances of inputs, output and weights from the places in a [`Conv`], for products of the same
/// shape that run one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shift {
    /// Of every source.
    pub input_bytes: usize,
    /// Of the output.
    pub out_bytes: usize,
    /// Of the packed weights.
    pub weights_bytes: usize,
}

/// A convolution laid out by the plan: `out = relu(bias + Σ sources + residual)`.
#[derive(Clone, Debug)]
pub struct Conv {
    /// The inputs, in the order in which they are summed.
    pub sources: Vec<Source>,
    /// The start of the packed weights in the network's weights.
    pub weights_bytes: usize,
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
    /// The type that the layer computes in: that of its inputs.
    pub fn dtype(&self) -> Dtype {
        self.sources[0].view.dtype
    }

    /// Output pixels of all images.
    pub fn m(&self) -> usize {
        self.out.shape().pixels()
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

    /// The panels of an item of the grid.
    pub(super) fn panels(&self, item: usize, shape: TileShape) -> Range<usize> {
        let first = item % self.grid.panel_blocks * self.grid.panels;
        first..(first + self.grid.panels).min(shape.panels(self.out.channels))
    }

    /// Calls `run` for each tile of an item of the grid, panel by panel, on tensors that lie `shift`
    /// away from the views; a residual does not shift. A tile has 1 to MR pixels.
    ///
    /// It only computes the pointers. If the views lie inside `arena`, the pointers and their windows do
    /// too.
    pub(super) fn for_each_tile<In: Element, Out: Element>(
        &self,
        item: usize,
        arena: *mut u8,
        shape: TileShape,
        shift: Shift,
        mut run: impl FnMut(Tile<In, Out>),
    ) {
        let first_row = item / self.grid.panel_blocks * self.grid.rows;
        let rows = self.grid.rows.min(self.m() - first_row);
        assert!(rows <= MAX_ROWS && self.sources.len() <= MAX_SOURCES);
        debug_assert!(self.sources.iter().all(|s| s.view.dtype == In::DTYPE));
        debug_assert!(self.out.dtype == Out::DTYPE);

        let mut inputs = [[ptr::null_mut::<In>(); MAX_ROWS]; MAX_SOURCES];
        for (input, source) in inputs.iter_mut().zip(&self.sources) {
            let walk = source.walk().shifted(shift.input_bytes);
            walk.fill(&self.out, first_row, arena, &mut input[..rows]);
        }
        let mut out = [ptr::null_mut::<Out>(); MAX_ROWS];
        let walk = Walk::over(&self.out).shifted(shift.out_bytes);
        walk.fill(&self.out, first_row, arena, &mut out[..rows]);
        let mut residual = [ptr::null_mut::<Out>(); MAX_ROWS];
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
        let count = rows.div_ceil(shape.mr);
        for panel in self.panels(item, shape) {
            for (index, pixels) in tiles(rows, count).enumerate() {
                let segments: [Segment<In>; MAX_SOURCES] =
                    std::array::from_fn(|source| segment(source, &pixels, panel));
                run(Tile {
                    segments: &segments[..self.sources.len()],
                    out: &out[pixels.clone()],
                    residual: self.residual.map(|_| &residual[pixels.clone()]),
                    panel,
                    index,
                    count,
                });
            }
        }
    }
}

/// Cuts `rows` into `count` tiles, as even as can be: a tile of two rows would wait for each of its
/// few accumulators.
pub(super) fn tiles(rows: usize, count: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}
