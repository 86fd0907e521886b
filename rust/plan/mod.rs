//! The plan: for one input shape, each step's kernel, its work, and its place in the arena.
//!
//! Planning looks at shapes only; a forward then walks the steps without deciding anything.

mod arena;
mod step;

use crate::kernels::KernelTable;
use crate::kernels::conv::{Conv, Grid, Source};
use crate::kernels::input::InputLayer;
use crate::kernels::pool::{AvgPoolLayer, MaxPoolLayer};
use crate::kernels::view::View;
use crate::network::architecture::{ConvSpec, Layer, Op, TensorId};
use arena::{Lifetime, place};

pub use step::{PlannedStep, Step, StepContext};

/// The shape of a batch of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub batch: usize,
    /// Rows of an image.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
}

/// What a forward does at one shape.
pub struct Plan {
    /// The input's shape.
    pub shape: Shape,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// Elements of the arena.
    pub arena_len: usize,
}

impl Plan {
    /// Plans `layers` for images of `channels` channels.
    ///
    /// `weights[i]` is where layer i's packed weights start, for layers that have some.
    pub fn new(
        layers: &[Layer],
        weights: &[usize],
        shape: Shape,
        channels: usize,
        table: &KernelTable,
        threads: usize,
    ) -> Self {
        let (views, arena_len) = views(layers, shape, channels);
        let mut steps = vec![PlannedStep {
            name: "input".into(),
            step: Step::Input(InputLayer { out: views[0] }),
        }];
        for (layer, &weights) in layers.iter().zip(weights) {
            let out = views[layer.output];
            let step = match &layer.op {
                Op::Conv {
                    sources,
                    residual,
                    relu,
                } => {
                    let source = |(id, conv): &(TensorId, ConvSpec)| {
                        Source::new(views[*id], conv.kernel, conv.stride, conv.padding)
                    };
                    let m = out.batch * out.height * out.width;
                    let panels = out.channels.div_ceil(table.nr);
                    Step::Conv(Conv {
                        sources: sources.iter().map(source).collect(),
                        weights,
                        residual: residual.map(|id| views[id]),
                        relu: *relu,
                        out,
                        grid: Grid::choose(m, panels, table.mr(), threads),
                    })
                }
                Op::MaxPool(input) => Step::MaxPool(MaxPoolLayer {
                    input: views[*input],
                    out,
                }),
                Op::GlobalAvgPool(input) => Step::AvgPool(AvgPoolLayer {
                    input: views[*input],
                    out,
                }),
            };
            steps.push(PlannedStep {
                name: layer.name.clone(),
                step,
            });
        }
        Self {
            shape,
            steps,
            arena_len,
        }
    }

    /// The steps up to and with the average pool: what an embedding needs.
    pub fn embedding_steps(&self) -> &[PlannedStep] {
        &self.steps[..self.steps.len() - 1]
    }
}

/// Where each tensor lies, tensor 0 (the image) first, and the elements of the arena.
fn views(layers: &[Layer], shape: Shape, channels: usize) -> (Vec<View>, usize) {
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
                let size = |n: usize| (n + 2 * conv.padding - conv.kernel) / conv.stride + 1;
                let (height, width) = (size(views[*id].height), size(views[*id].width));
                View::activations(batch, height, width, conv.out_channels)
            }
            Op::MaxPool(id) => View::activations(
                batch,
                MaxPoolLayer::output(views[*id].height),
                MaxPoolLayer::output(views[*id].width),
                views[*id].channels,
            ),
            Op::GlobalAvgPool(id) => View::activations(batch, 1, 1, views[*id].channels),
        };
        // A tensor that is added to in place has its shape already; its place in the list is
        // still counted, so that ids are indices.
        views.push(out);
    }

    let mut border = vec![0; views.len()];
    for (id, padding) in layers.iter().flat_map(Layer::inputs) {
        border[id] = border[id].max(padding);
    }
    for (view, border) in views.iter_mut().zip(border) {
        *view = view.with_border(border);
    }

    let lifetimes = lifetimes(layers, &views);
    let (offsets, arena_len) = place(&lifetimes);
    for (view, offset) in views.iter_mut().zip(offsets) {
        view.offset = offset;
    }
    (views, arena_len)
}

/// The steps between which each tensor is alive; step 0 is the input's, step i + 1 layer i's.
fn lifetimes(layers: &[Layer], views: &[View]) -> Vec<Lifetime> {
    let mut lifetimes = vec![None; views.len()];
    let mut touch = |id: TensorId, step: usize| {
        let lifetime = lifetimes[id].get_or_insert(Lifetime {
            len: views[id].len(),
            first: step,
            last: step,
        });
        lifetime.last = step;
    };
    touch(0, 0);
    for (i, layer) in layers.iter().enumerate() {
        for (id, _) in layer.inputs() {
            touch(id, i + 1);
        }
        touch(layer.output, i + 1);
    }
    // The last two, embedding and logits, are read after the end.
    touch(layers[layers.len() - 2].output, layers.len() + 1);
    touch(layers[layers.len() - 1].output, layers.len() + 1);
    let unused = Lifetime {
        len: 0,
        first: 0,
        last: 0,
    };
    lifetimes.into_iter().map(|l| l.unwrap_or(unused)).collect()
}
