//! The shapes of the tensors between layers.

use crate::graph::layer::{Layer, Op};
use crate::kernels::view::View;
use crate::shape::{MAX_POOL, Shape};

/// The shape of each layer's output, tensor 0 (the image) first, not laid out yet.
///
/// A tensor that several layers add to in place has an entry for each of them, so that ids are
/// indices; only the first is used.
pub fn shapes(layers: &[Layer], shape: Shape, channels: usize) -> Vec<View> {
    let Shape {
        batch,
        height,
        width,
    } = shape;
    let mut views = vec![View::pixels(batch, height, width, channels, 0)];
    for layer in layers {
        let out = match &layer.op {
            Op::Conv { sources, .. } => {
                let (id, conv) = &sources[0];
                let window = conv.window();
                let height = window.output(views[*id].height);
                let width = window.output(views[*id].width);
                View::activations(batch, height, width, conv.out_channels)
            }
            Op::MaxPool(id) => View::activations(
                batch,
                MAX_POOL.output(views[*id].height),
                MAX_POOL.output(views[*id].width),
                views[*id].channels,
            ),
            Op::AvgPool(id, window) => View::activations(
                batch,
                window.output(views[*id].height),
                window.output(views[*id].width),
                views[*id].channels,
            ),
            Op::GlobalAvgPool(id) => View::activations(batch, 1, 1, views[*id].channels),
            Op::Elementwise { a, .. } => {
                let a = &views[*a];
                View::activations(batch, a.height, a.width, a.channels)
            }
        };
        views.push(out);
    }
    views
}
