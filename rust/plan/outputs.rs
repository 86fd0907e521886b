//! The shapes of the tensors between layers.

use crate::graph::layer::{Layer, Op};
use crate::shape::{Shape, TensorShape};

/// The shape of each layer's output, tensor 0 (the image) first.
///
/// A tensor that several layers add to in place has an entry for each of them, so that ids are
/// indices; only the first is used.
pub fn shapes(layers: &[Layer], shape: Shape, channels: usize) -> Vec<TensorShape> {
    let Shape {
        batch,
        height,
        width,
    } = shape;
    let mut shapes: Vec<TensorShape> = vec![[batch, height, width, channels].into()];
    for layer in layers {
        let windowed = |id: usize, output: &dyn Fn(usize) -> usize| {
            let input = shapes[id];
            TensorShape {
                height: output(input.height),
                width: output(input.width),
                ..input
            }
        };
        shapes.push(match &layer.op {
            Op::Conv { sources, .. } => {
                let (id, conv) = &sources[0];
                TensorShape {
                    channels: conv.out_channels,
                    ..windowed(*id, &|size| conv.window().output(size))
                }
            }
            Op::MaxPool(id, Some(window)) | Op::AvgPool(id, Some(window)) => {
                windowed(*id, &|size| window.output(size))
            }
            Op::MaxPool(id, None) | Op::AvgPool(id, None) => windowed(*id, &|_| 1),
            Op::Pad(id, pad) => {
                let pooled = windowed(*id, &|size| pad.window.output(size));
                TensorShape {
                    channels: pad.before + pooled.channels + pad.after,
                    ..pooled
                }
            }
            Op::Elementwise { a, .. } | Op::Convert(a) => shapes[*a],
        });
    }
    shapes
}
