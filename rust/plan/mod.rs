//! The plan: for one input shape, each step's kernel, its work, and its place in the arena.
//!
//! Planning looks at shapes only; a forward then walks the steps without deciding anything.

mod arena;
mod choose;
mod step;
mod weights;
mod winograd;

use crate::kernels::KernelTable;
use crate::kernels::conv::{Conv, Grid, Source};
use crate::kernels::input::InputLayer;
use crate::kernels::pool::{AvgPoolLayer, MaxPoolLayer};
use crate::kernels::view::View;
use crate::network::architecture::{ConvSpec, Layer, Op, TensorId};
use arena::{Lifetime, place};
use winograd::WinogradLayer;

pub use choose::{Algorithm, choose};
pub use step::{PlannedStep, Step, StepContext};
pub use weights::LayerWeights;

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
    /// Plans `layers`, whose weights are packed as `weights` says, for images of `channels`
    /// channels.
    pub fn new(
        layers: &[Layer],
        weights: &[LayerWeights],
        shape: Shape,
        channels: usize,
        table: &KernelTable,
        threads: usize,
    ) -> Self {
        let Views {
            tensors: views,
            scratch,
            arena_len,
        } = views(layers, weights, shape, channels, threads);
        let mut steps = vec![PlannedStep {
            name: "input".into(),
            step: Step::Input(InputLayer { out: views[0] }),
            completes_layer: false,
        }];
        // A few items a thread even out what the machine does besides.
        let wanted = if threads == 1 { 1 } else { 8 * threads };
        for ((layer, weights), scratch) in layers.iter().zip(weights).zip(scratch) {
            let out = views[layer.output];
            let mut layer_steps = match &layer.op {
                Op::Conv { sources, relu, .. } if let Some(winograd) = scratch => {
                    let input = views[sources[0].0];
                    winograd.steps(input, out, *relu, weights.start, table, wanted)
                }
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
                    vec![Step::Conv(Conv {
                        sources: sources.iter().map(source).collect(),
                        weights: weights.start,
                        residual: residual.map(|id| views[id]),
                        relu: *relu,
                        out,
                        grid: Grid::choose(m, panels, table.mr(), wanted),
                    })]
                }
                Op::MaxPool(input) => vec![Step::MaxPool(MaxPoolLayer {
                    input: views[*input],
                    out,
                })],
                Op::GlobalAvgPool(input) => vec![Step::AvgPool(AvgPoolLayer {
                    input: views[*input],
                    out,
                })],
            };
            let last = layer_steps.pop();
            let named = |step, completes_layer| PlannedStep {
                name: layer.name.clone(),
                step,
                completes_layer,
            };
            steps.extend(layer_steps.into_iter().map(|step| named(step, false)));
            steps.extend(last.map(|step| named(step, true)));
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

/// The shape of each layer's output, tensor 0 (the image) first, not laid out yet.
///
/// A tensor that is added to in place has an entry for each layer that does so, so that ids are
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
        views.push(out);
    }
    views
}

/// Where everything lies in the arena.
struct Views {
    /// The tensors between layers, by id.
    tensors: Vec<View>,
    /// For each layer what it needs besides, where it is a Winograd layer.
    scratch: Vec<Option<WinogradLayer>>,
    /// Elements of the arena.
    arena_len: usize,
}

fn views(
    layers: &[Layer],
    weights: &[LayerWeights],
    shape: Shape,
    channels: usize,
    threads: usize,
) -> Views {
    let mut tensors = shapes(layers, shape, channels);
    let mut border = vec![0; tensors.len()];
    for (id, padding) in layers.iter().flat_map(Layer::inputs) {
        border[id] = border[id].max(padding);
    }
    for (view, border) in tensors.iter_mut().zip(border) {
        *view = view.with_border(border);
    }
    let mut scratch: Vec<Option<WinogradLayer>> = layers
        .iter()
        .zip(weights)
        .map(|(layer, weights)| {
            let Algorithm::Winograd(size) = weights.algorithm else {
                return None;
            };
            let (input, _) = layer.inputs()[0];
            let (input, out) = (&tensors[input], &tensors[layer.output]);
            Some(WinogradLayer::new(size, input, out, threads))
        })
        .collect();

    let mut lifetimes = lifetimes(layers, &tensors);
    let during = scratch.iter().enumerate().flat_map(|(i, scratch)| {
        let views = scratch.iter().flat_map(|s| [s.v, s.p]);
        views.map(move |view| Lifetime {
            len: view.len(),
            first: i + 1,
            last: i + 1,
        })
    });
    lifetimes.extend(during);
    let (offsets, arena_len) = place(&lifetimes);
    let scratch_views = scratch
        .iter_mut()
        .flatten()
        .flat_map(|s| [&mut s.v, &mut s.p]);
    for (view, offset) in tensors.iter_mut().chain(scratch_views).zip(offsets) {
        view.offset = offset;
    }
    Views {
        tensors,
        scratch,
        arena_len,
    }
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
