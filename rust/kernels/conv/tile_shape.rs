//! The register tile of a tier for a dtype, and the size of the panels that go with it.

use crate::dtype::Dtype;

/// Bytes of a place of a packed panel: those of a sum.
const PLACE_BYTES: usize = 4;

/// MR output pixels by NR output channels, in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// The type of the inputs.
    pub dtype: Dtype,
    /// Values of k in a place of a packed panel, which is as wide as a sum: 1, 2 in bf16, 2 or 4 in int8.
    pub depth: usize,
    /// Places of each channel before its weights: the bias, and in int8 what becomes of the sum.
    pub header: usize,
    /// The most output pixels of a tile.
    pub mr: usize,
    /// Output channels of a tile, and of a packed panel.
    pub nr: usize,
}

impl TileShape {
    /// The number of panels for `out_channels` channels; the last one may be partly empty.
    pub fn panels(&self, out_channels: usize) -> usize {
        out_channels.div_ceil(self.nr)
    }

    /// Places of a packed panel of `k` values for each channel.
    pub fn panel_len(&self, k: usize) -> usize {
        self.nr * (self.header + k.div_ceil(self.depth))
    }

    /// Bytes of such a panel.
    pub fn panel_bytes(&self, k: usize) -> usize {
        self.panel_len(k) * PLACE_BYTES
    }

    /// Bytes of all packed panels.
    pub fn packed_bytes(&self, out_channels: usize, k: usize) -> usize {
        self.panels(out_channels) * self.panel_bytes(k)
    }
}
