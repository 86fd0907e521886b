//! The sizes of Winograd's output tiles.

/// The size of the output tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileSize {
    /// F(2x2, 3x3): 16 points, weights 1.8 times as large.
    Two,
    /// F(4x4, 3x3): 36 points, weights 4 times as large.
    Four,
}

impl TileSize {
    /// m: outputs of a tile, down and across.
    pub fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// m + 2: inputs of a tile, down and across.
    pub fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// (m + 2)²: multiplications of a tile.
    pub fn points(self) -> usize {
        self.inputs() * self.inputs()
    }

    /// Tiles of an image of `height` x `width` outputs; the last ones may reach beyond it.
    pub fn tiles(self, height: usize, width: usize) -> usize {
        height.div_ceil(self.outputs()) * width.div_ceil(self.outputs())
    }
}
