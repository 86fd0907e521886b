//! A Winograd layer, block of tiles by block of tiles.

use super::step::Step;
use crate::kernels::conv::winograd::{
    PointProducts, TileBlock, TileSize, TransformInput, TransformOutput,
};
use crate::kernels::conv::{Conv, Grid, Shift, Source, TileShape, packed_len};
use crate::kernels::view::{LINE, View};

/// Elements of V and P together, for each thread: 2 MiB. Small enough to stay near the cores
/// between the steps that write and read them, and large enough for all tiles of the later stages
/// at once, whose weights would otherwise be read for each block again.
const SCRATCH_PER_THREAD: usize = 1 << 19;

/// Channels of all tiles of an item of the transforms: an item takes about a microsecond.
const CHANNELS_PER_ITEM: usize = 512;

/// The scratch tensors of a Winograd layer.
#[derive(Clone, Copy, Debug)]
pub struct WinogradLayer {
    size: TileSize,
    /// Tiles of a block.
    block: usize,
    /// Transformed inputs of a block: `[points, 1, block, in_channels]`.
    pub v: View,
    /// Products of a block: `[points, 1, block, out_channels]`.
    pub p: View,
}

impl WinogradLayer {
    /// For a layer from `input` to `out`, at most `images` images at a time.
    pub fn new(size: TileSize, images: usize, input: &View, out: &View, threads: usize) -> Self {
        // The transforms take whole vectors of channels.
        assert!(input.pixel_stride.is_multiple_of(LINE) && out.pixel_stride.is_multiple_of(LINE));
        let tiles = images * size.tiles(out.height, out.width);
        let per_tile = size.points() * (input.channels + out.channels);
        let largest = (threads * SCRATCH_PER_THREAD / per_tile).clamp(1, tiles);
        // As even as can be, so that no block is left with a tile or two.
        let block = tiles.div_ceil(tiles.div_ceil(largest));
        Self {
            size,
            block,
            v: View::matrices(size.points(), block, input.channels),
            p: View::matrices(size.points(), block, out.channels),
        }
    }

    /// The steps: for each block the input's transform, the products, the output's transform, which
    /// adds the values of `out` if there is a residual.
    pub fn steps(
        &self,
        input: View,
        out: View,
        [residual, relu]: [bool; 2],
        weights: usize,
        tile: TileShape,
        wanted: usize,
    ) -> Vec<Step> {
        let (points, channels) = (self.size.points(), input.channels);
        let matrix_len = packed_len(out.channels, channels, tile.nr);
        let panels = out.channels.div_ceil(tile.nr);
        let all_tiles = out.batch * self.size.tiles(out.height, out.width);
        let mut steps = Vec::new();
        for start in (0..all_tiles).step_by(self.block) {
            let tiles = start..(start + self.block).min(all_tiles);
            let rows = tiles.len();
            let is_last = tiles.end == all_tiles;
            let block = |channels: usize| TileBlock {
                size: self.size,
                tiles: tiles.clone(),
                tiles_per_item: CHANNELS_PER_ITEM.div_ceil(channels),
            };
            // The first rows of each point's matrix; the last block may be shorter.
            let matrix = |view: View| View {
                batch: 1,
                width: rows,
                ..view
            };
            steps.push(Step::WinogradInput(TransformInput {
                block: block(channels),
                input,
                v: self.v,
            }));
            steps.push(Step::WinogradProducts(PointProducts {
                product: Conv {
                    sources: vec![Source::new(matrix(self.v), 1, 1, 0)],
                    weights,
                    residual: None,
                    relu: false,
                    out: matrix(self.p),
                    grid: Grid::choose(rows, panels, tile.mr, wanted.div_ceil(points)),
                },
                points,
                to_next_point: Shift {
                    input: self.v.image_stride,
                    out: self.p.image_stride,
                    weights: matrix_len,
                },
            }));
            steps.push(Step::WinogradOutput(TransformOutput {
                block: block(out.channels),
                p: self.p,
                bias: weights + points * matrix_len,
                out,
                residual,
                relu,
                is_last,
            }));
        }
        steps
    }
}
