//! A block of tiles, which stays in cache from step to step.

use std::ops::Range;

use super::size::TileSize;
use crate::kernels::view::View;

/// A run of tiles, counted over all images, row by row.
#[derive(Clone, Debug)]
pub struct TileBlock {
    /// The size of the tiles.
    pub size: TileSize,
    /// The tiles' numbers.
    pub tiles: Range<usize>,
    /// Tiles of an item of work.
    pub tiles_per_item: usize,
}

/// A tile's place: image, first output row, first output column.
pub(super) struct Place {
    pub(super) n: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}

impl TileBlock {
    /// Items of work.
    pub(super) fn items(&self) -> usize {
        self.tiles.len().div_ceil(self.tiles_per_item)
    }

    /// The tiles of an item, as (place in the block, place in the images of `out`'s size).
    pub(super) fn item<'a>(
        &'a self,
        item: usize,
        out: &'a View,
    ) -> impl Iterator<Item = (usize, Place)> + 'a {
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
