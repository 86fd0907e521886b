//! From layers and a shape to the steps of a plan.

use std::ops::Range;

use super::layout::{Grouping, Layout};
use super::lifetimes::embedding_layers;
use super::step::{PlannedStep, Step};
use super::weights::{LayerWeights, panel_channels};
use crate::graph::layer::{ConvSpec, Layer, Op, TensorId};
use crate::kernels::KernelShapes;
use crate::kernels::conv::{Conv, Grid, Source};
use crate::kernels::elementwise::ElementwiseLayer;
use crate::kernels::input::InputLayer;
use crate::kernels::pool::{AvgPoolLayer, MaxPoolLayer};
use crate::shape::Shape;

/// The steps of a forward at one shape.
pub struct Plan {
    /// The input's shape.
    pub shape: Shape,
    /// The steps, in order.
    pub steps: Vec<PlannedStep>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// The number of threads that the plan is made for.
    pub threads: usize,
    /// Multiply-accumulates of all steps.
    pub macs: usize,
    has_fc: bool,
}

impl Plan {
    /// Plans `layers` for images of `channels` channels.
    ///
    /// - `weights`: the places of the layers' packed weights.
    /// - `kernels`: the shapes of the tier's kernels.
    pub fn new(
        layers: &[Layer],
        weights: &[LayerWeights],
        shape: Shape,
        channels: usize,
        kernels: &KernelShapes,
        threads: usize,
        grouping: Grouping,
    ) -> Self {
        let layout = Layout::new(
            layers,
            weights,
            shape,
            channels,
            kernels.layout,
            threads,
            grouping,
        );
        let builder = Builder {
            layers,
            weights,
            layout: &layout,
            kernels,
            // With a few items for each thread, other load on the machine is evened out.
            wanted: if threads == 1 { 1 } else { 8 * threads },
        };
        let mut steps = Vec::new();
        for first in (0..shape.batch).step_by(layout.group) {
            let images = first..(first + layout.group).min(shape.batch);
            steps.push(PlannedStep {
                name: "input".into(),
                step: Step::Input(InputLayer {
                    out: layout.view(0, images.clone()),
                    first_image: first,
                }),
                completes_layer: false,
            });
            for i in 0..layout.split {
                builder.push(i, images.clone(), &mut steps);
            }
        }
        for i in layout.split..layers.len() {
            builder.push(i, 0..shape.batch, &mut steps);
        }
        Self {
            shape,
            macs: steps.iter().map(|planned| planned.step.macs()).sum(),
            steps,
            arena_bytes: layout.arena_bytes,
            threads,
            has_fc: embedding_layers(layers) < layers.len(),
        }
    }

    /// The steps up to and including the average pool, which an embedding needs.
    pub fn embedding_steps(&self) -> &[PlannedStep] {
        &self.steps[..self.steps.len() - usize::from(self.has_fc)]
    }
}

/// The parts from which the steps of all layers are made.
struct Builder<'a> {
    layers: &'a [Layer],
    weights: &'a [LayerWeights],
    layout: &'a Layout,
    kernels: &'a KernelShapes,
    wanted: usize,
}

impl Builder<'_> {
    /// Appends the steps of layer `i` for some images.
    fn push(&self, i: usize, images: Range<usize>, steps: &mut Vec<PlannedStep>) {
        let (layer, weights) = (&self.layers[i], &self.weights[i]);
        let (tile, start) = (self.kernels.tile(weights.dtype), weights.offset_bytes);
        let view = |id: TensorId| self.layout.view(id, images.clone());
        let out = view(layer.output);
        let mut layer_steps = match &layer.op {
            Op::Conv {
                sources,
                residual,
                relu,
            } if let Some(winograd) = &self.layout.scratch[i] => {
                let (input, adds) = (view(sources[0].0), [residual.is_some(), *relu]);
                winograd.steps(input, out, adds, start, tile, self.wanted)
            }
            Op::Conv {
                sources,
                residual,
                relu,
            } => {
                let m = out.shape().pixels();
                let panels = tile.panels(out.channels);
                let source = |(id, conv): &(TensorId, ConvSpec)| {
                    let channels = panel_channels(conv, tile.nr);
                    Source::grouped(view(*id), conv.window(), channels, panels)
                };
                vec![Step::Conv(Conv {
                    sources: sources.iter().map(source).collect(),
                    weights_bytes: start,
                    residual: residual.map(view),
                    relu: *relu,
                    out,
                    grid: Grid::choose(m, panels, tile.mr, self.wanted),
                })]
            }
            Op::MaxPool(input, window) => vec![Step::MaxPool(MaxPoolLayer {
                input: view(*input),
                out,
                window: *window,
            })],
            Op::AvgPool(input, window) => vec![Step::AvgPool(AvgPoolLayer {
                input: view(*input),
                out,
                window: *window,
                first_channel: 0,
            })],
            Op::Pad(input, pad) => vec![Step::AvgPool(AvgPoolLayer {
                input: view(*input),
                out,
                window: Some(pad.window),
                first_channel: pad.before,
            })],
            Op::Elementwise { a, norm, b, relu } => vec![Step::Elementwise(ElementwiseLayer {
                a: view(*a),
                norm_bytes: norm.is_some().then_some(start),
                b: b.map(view),
                relu: *relu,
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
}
