//! A tile of a convolution as pointers: the part of a microkernel's arguments that is the same for
//! every dtype.

/// One input of a tile: the starts of its rows, and the taps that are read from each.
#[derive(Clone, Copy)]
pub struct Segment<'a, T> {
    /// For each of the tile's output pixels, the input's first element under tap offset 0.
    pub rows: &'a [*mut T],
    /// Offsets of the taps from a row's start, in elements.
    pub taps: &'a [usize],
    /// Contiguous elements of a tap.
    pub len: usize,
}

/// Up to MR output pixels by one panel of output channels, from inputs of `In` to an output of
/// `Out`.
#[derive(Clone, Copy)]
pub struct Tile<'a, In, Out> {
    /// The inputs; two if a block's shortcut convolution is summed into its last convolution.
    pub segments: &'a [Segment<'a, In>],
    /// For each of the tile's pixels, the output's channel 0.
    pub out: &'a [*mut Out],
    /// For each of the tile's pixels, the residual's channel 0; it may be `out` itself.
    pub residual: Option<&'a [*mut Out]>,
    /// The panel's number in the layer.
    pub panel: usize,
    /// The tile's number among the tiles of a block's panel.
    pub index: usize,
    /// Tiles of a block's panel.
    pub count: usize,
}
