//! From layers and a shape to the steps of a plan.

use super::layout::{Group, Layout};
use super::lifetimes::embedding_layers;
use super::regions::{Grouping, Groups};
use super::segment::Segment;
use super::step::{PlannedStep, Step};
use super::weights::{Arithmetic, LayerWeights, panel_channels};
use crate::dtype::Dtype;
use crate::graph::layer::{ConvSpec, Layer, Op, TensorId};
use crate::kernels::KernelShapes;
use crate::kernels::conv::{Conv, Grid, Source};
use crate::kernels::convert::ConvertLayer;
use crate::kernels::elementwise::ElementwiseLayer;
use crate::kernels::input::InputLayer;
use crate::kernels::pool::{AvgPoolLayer, MaxPoolLayer, Units};
use crate::shape::Shape;

/// Items of a step for each worker, at least.
const ITEMS_PER_WORKER: usize = 8;

/// The steps of a forward at one shape.
pub struct Plan {
    /// The input's shape.
    pub shape: Shape,
    /// The steps, in an order in which one worker may do them.
    pub steps: Vec<PlannedStep>,
    /// The order in which a team does them.
    pub segments: Vec<Segment>,
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
            threads,
        };
        let (mut steps, mut segments) = (Vec::new(), Vec::new());
        for (index, region) in layout.regions.iter().enumerate() {
            for lanes in region.turns(shape.batch) {
                segments.push(builder.segment(index, &lanes, &mut steps));
            }
        }
        // An embedding ends before fc.
        let has_fc = embedding_layers(layers) < layers.len();
        if has_fc && let Some(track) = segments.last_mut().and_then(|s| s.tracks.last_mut()) {
            track.end -= 1;
            let fc = track.end;
            segments.push(Segment::one(fc..fc + 1));
        }
        Self {
            shape,
            macs: steps.iter().map(|planned| planned.step.macs()).sum(),
            steps,
            segments,
            arena_bytes: layout.arena_bytes,
            threads,
            has_fc,
        }
    }

    /// The segments up to and including the average pool, which an embedding needs.
    pub fn embedding_segments(&self) -> &[Segment] {
        &self.segments[..self.segments.len() - usize::from(self.has_fc)]
    }
}

/// The parts from which the steps of all layers are made.
struct Builder<'a> {
    layers: &'a [Layer],
    weights: &'a [LayerWeights],
    layout: &'a Layout,
    kernels: &'a KernelShapes,
    threads: usize,
}

impl Builder<'_> {
    /// Appends the steps of a turn of a region's lanes.
    fn segment(&self, region: usize, lanes: &[Groups], steps: &mut Vec<PlannedStep>) -> Segment {
        // With a few items for each thread, other load on the machine is evened out.
        let wanted = match self.threads {
            1 => 1,
            threads => ITEMS_PER_WORKER * (threads / lanes.len()).max(1),
        };
        let mut track = |(lane, groups): (usize, &Groups)| {
            let start = steps.len();
            for images in groups {
                let group = Group {
                    region,
                    lane,
                    images: images.clone(),
                };
                for i in self.layout.regions[region].layers.clone() {
                    if i == 0 {
                        steps.push(self.input(&group));
                    }
                    self.push(i, &group, wanted, steps);
                }
            }
            start..steps.len()
        };
        Segment {
            tracks: lanes.iter().enumerate().map(&mut track).collect(),
        }
    }

    /// The step that copies the images.
    fn input(&self, group: &Group) -> PlannedStep {
        PlannedStep {
            name: "input".into(),
            step: Step::Input(InputLayer {
                out: self.layout.view(0, group),
                first_image: group.images.start,
            }),
            completes_layer: false,
            scale: 1.0,
        }
    }

    /// Appends the steps of layer `i` for a group of images, each cut into about `wanted` items.
    fn push(&self, i: usize, group: &Group, wanted: usize, steps: &mut Vec<PlannedStep>) {
        let (layer, weights) = (&self.layers[i], &self.weights[i]);
        let arithmetic = weights.arithmetic;
        let (tile, start) = (self.kernels.tile(arithmetic.dtype), weights.offset_bytes);
        let view = |id: TensorId| self.layout.view(id, group);
        let out = view(layer.output);
        let mut layer_steps = match &layer.op {
            Op::Conv {
                sources,
                residual,
                relu,
            } if let Some(winograd) = self.layout.scratch(i, group) => {
                let (input, adds) = (view(sources[0].0), [residual.is_some(), *relu]);
                winograd.steps(input, out, adds, start, tile, wanted)
            }
            Op::Conv {
                sources,
                residual,
                relu,
            } => {
                let m = out.shape().pixels();
                let panels = tile.panels(out.channels);
                let source = |(id, conv): &(TensorId, ConvSpec)| {
                    let channels = panel_channels(conv, tile);
                    Source::grouped(view(*id), conv.window(), channels, panels)
                };
                vec![Step::Conv(Conv {
                    sources: sources.iter().map(source).collect(),
                    weights_bytes: start,
                    residual: residual.map(view),
                    relu: *relu,
                    out,
                    grid: Grid::choose(m, panels, tile.mr, wanted),
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
                units: units(&arithmetic),
            })],
            Op::Pad(input, pad) => vec![Step::AvgPool(AvgPoolLayer {
                input: view(*input),
                out,
                window: Some(pad.window),
                first_channel: pad.before,
                units: units(&arithmetic),
            })],
            Op::Convert(input) => vec![Step::Convert(ConvertLayer {
                input: view(*input),
                out,
                factor: conversion_factor(&arithmetic),
            })],
            Op::Elementwise { a, norm, b, relu } => vec![Step::Elementwise(ElementwiseLayer {
                a: view(*a),
                norm_bytes: norm.is_some().then_some(start),
                b: b.map(view),
                relu: *relu,
                out,
            })],
        };
        if !layer.is_named() {
            let step = layer_steps.remove(0);
            steps.push(PlannedStep {
                name: layer.name.clone(),
                step,
                completes_layer: false,
                scale: arithmetic.scales.output,
            });
            return;
        }
        let last = layer_steps.pop();
        let named = |step, completes_layer| PlannedStep {
            name: layer.name.clone(),
            step,
            completes_layer,
            scale: arithmetic.scales.output,
        };
        steps.extend(layer_steps.into_iter().map(|step| named(step, false)));
        steps.extend(last.map(|step| named(step, true)));
    }
}

/// The factor of a change of type: the unit of the whole numbers, or its reciprocal.
fn conversion_factor(arithmetic: &Arithmetic) -> f32 {
    match arithmetic.dtype {
        Dtype::Bf16 => (1.0 / f64::from(arithmetic.scales.output)) as f32,
        _ => arithmetic.scales.input,
    }
}

/// The change of units in an average pool.
fn units(arithmetic: &Arithmetic) -> Units {
    match arithmetic.dtype {
        Dtype::F32 | Dtype::Bf16 => Units::SAME,
        Dtype::I16 | Dtype::U8 => Units {
            ratio: f64::from(arithmetic.scales.input) / f64::from(arithmetic.scales.output),
            most: arithmetic.most,
        },
    }
}
