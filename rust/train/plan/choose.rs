//! The choice between direct convolution and Winograd's algorithm while training.

use crate::graph::operations::Convolution;
use crate::kernels::conv::winograd::TileSize;
use crate::kernels::view::View;

/// The tiles that a point's matrix product must have to be worth the transform of its weights, which
/// training does anew in each step.
const TILES: usize = 24;

/// Those that are worth the transform of the weights' gradient, whose matrices are written and read once
/// more.
const GRADIENT_TILES: usize = 6;

/// The tile size that needs the fewest multiplications for `conv` from `input` to `out`, in tensors of the
/// batch; None for direct convolution.
///
/// The number of tiles counts the batch: a step's algorithms depend on its shape, and on nothing else.
pub(super) fn winograd_size(conv: &Convolution, input: &View, out: &View) -> Option<TileSize> {
    cheapest(conv, [input, out], TILES)
}

/// The same for the gradient by the weights, from `input` and the output's gradient.
///
/// Its error is that of the forward pass where the input is an activation, which is never negative. Where the
/// input has both signs and the gradient hardly varies, sums cancel, and the error of F(4x4) was up to 16
/// times that of direct sums. The only such input is the image, whose convolution is a direct one.
pub(super) fn winograd_gradient_size(
    conv: &Convolution,
    input: &View,
    gradient: &View,
) -> Option<TileSize> {
    cheapest(conv, [input, gradient], GRADIENT_TILES)
}

/// True if Winograd's algorithm pays in the forward pass, with tiles of `size`.
///
/// It stays in f32 there, also in training in bf16: the transform enlarges the roundings of its tiles, and those of
/// the forward pass go through all layers that follow. With products of F(4x4) in bf16, gradients were twice as far
/// from those in f64. Backwards the products are bf16: it made no difference. Tiles of 2x2 in f32 take longer than
/// direct products in bf16.
pub(super) fn forward_winograd_pays(size: TileSize, bf16: bool) -> bool {
    !bf16 || size == TileSize::Four
}

fn cheapest(conv: &Convolution, [input, out]: [&View; 2], overhead: usize) -> Option<TileSize> {
    let fits = (conv.kernel, conv.stride, conv.padding) == (3, 1, 1)
        && (conv.dilation, conv.groups) == (1, 1)
        && input.has_whole_lines()
        && out.has_whole_lines();
    if !fits {
        return None;
    }
    let direct = 9 * out.shape().pixels();
    let cost = |size: TileSize| {
        let tiles = out.batch * size.tiles(out.height, out.width);
        size.points() * (tiles + overhead)
    };
    [TileSize::Four, TileSize::Two]
        .into_iter()
        .filter(|&size| cost(size) < direct)
        .min_by_key(|&size| cost(size))
}
