//! The register tile of a tier for a dtype, and the size of the panels that go with it.

use super::f32::pack::panel_len;
use crate::dtype::Dtype;

/// MR output pixels by NR output channels, in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TileShape {
    /// The type that the tile computes in.
    pub dtype: Dtype,
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

    /// Bytes of a packed panel of `k` rows.
    pub fn panel_bytes(&self, k: usize) -> usize {
        match self.dtype {
            Dtype::F32 => panel_len(k, self.nr) * Dtype::F32.size(),
        }
    }

    /// Bytes of all packed panels.
    pub fn packed_bytes(&self, out_channels: usize, k: usize) -> usize {
        self.panels(out_channels) * self.panel_bytes(k)
    }
}
