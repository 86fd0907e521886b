//! A Winograd layer, block of tiles by block of tiles.

use super::step::Step;
use crate::dtype::Dtype;
use crate::kernels::ActivationLayout;
use crate::kernels::conv::winograd::{
    PointProducts, TileBlock, TileSize, TransformInput, TransformOutput,
};
use crate::kernels::conv::{Conv, Grid, Shift, Source, TileShape};
use crate::kernels::view::View;

/// Bytes of V and P together, for each thread: 2 MiB. Small enough to stay near the cores
/// between the steps that write and read them, and large enough for all tiles of the later stages
/// at once, whose weights would otherwise be read for each block again.
const SCRATCH_PER_THREAD: usize = 2 << 20;

/// The type of V and P: the transforms are written for f32.
const DTYPE: Dtype = Dtype::F32;

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
    pub fn new(
        size: TileSize,
        images: usize,
        input: &View,
        out: &View,
        layout: ActivationLayout,
        threads: usize,
    ) -> Self {
        assert_eq!([input.dtype, out.dtype], [DTYPE; 2]);
        // The transforms take whole vectors of channels.
        assert!(input.has_whole_lines() && out.has_whole_lines());
        let tiles = images * size.tiles(out.height, out.width);
        let per_tile = size.points() * (input.channels + out.channels) * DTYPE.size();
        let largest = (threads * SCRATCH_PER_THREAD / per_tile).clamp(1, tiles);
        // As even as possible, so that no block has only a tile or two.
        let block = tiles.div_ceil(tiles.div_ceil(largest));
        Self {
            size,
            block,
            v: layout.matrices(DTYPE, size.points(), block, input.channels),
            p: layout.matrices(DTYPE, size.points(), block, out.channels),
        }
    }

    /// The same with its scratch tensors so many bytes further on.
    pub fn shifted(self, bytes: usize) -> Self {
        let (v, p) = (self.v.shifted(bytes), self.p.shifted(bytes));
        Self { v, p, ..self }
    }

    /// The same with its scratch tensors at these places.
    pub fn placed(self, v_bytes: usize, p_bytes: usize) -> Self {
        let (v, p) = (self.v.shifted(v_bytes), self.p.shifted(p_bytes));
        Self { v, p, ..self }
    }

    /// The steps: for each block the input's transform, the products, the output's transform, which
    /// adds the values of `out` if there is a residual.
    pub fn steps(
        &self,
        input: View,
        out: View,
        [residual, relu]: [bool; 2],
        weights_bytes: usize,
        tile: TileShape,
        wanted: usize,
    ) -> Vec<Step> {
        let (points, channels) = (self.size.points(), input.channels);
        let matrix_bytes = tile.packed_bytes(out.channels, channels);
        let panels = tile.panels(out.channels);
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
            let matrix = |view: View| view.first_pixels(rows);
            steps.push(Step::WinogradInput(TransformInput {
                block: block(channels),
                input,
                v: self.v,
            }));
            steps.push(Step::WinogradProducts(PointProducts {
                product: Conv {
                    sources: vec![Source::pixels(matrix(self.v))],
                    weights_bytes,
                    residual: None,
                    relu: false,
                    out: matrix(self.p),
                    grid: Grid::choose(rows, panels, tile.mr, wanted.div_ceil(points)),
                },
                points,
                to_next_point: Shift {
                    input_bytes: self.v.image_stride_bytes(),
                    out_bytes: self.p.image_stride_bytes(),
                    weights_bytes: matrix_bytes,
                },
            }));
            steps.push(Step::WinogradOutput(TransformOutput {
                block: block(out.channels),
                p: self.p,
                bias_bytes: weights_bytes + points * matrix_bytes,
                out,
                residual,
                relu,
                is_last,
            }));
        }
        steps
    }
}
