//! The steps of the forward pass.

use super::build::{Builder, Placed};
use super::choose::{forward_winograd_pays, winograd_size};
use super::slots::Slot;
use super::step::{TrainStep, WeightsAt};
use crate::dtype::Dtype;
use crate::graph::operations::Convolution;
use crate::kernels::conv::mixed::{MixedKernels, RoundPanels};
use crate::kernels::conv::winograd::{TileSize, TransformPacked};
use crate::kernels::conv::{Conv, Grid, Source};
use crate::kernels::input::InputLayer;
use crate::kernels::norm::{
    Activate, Coefficients, FinishStatistics, GammaBeta, Running, Statistics, Summand,
};
use crate::kernels::pool::{AvgPoolLayer, MaxPoolLayer, Units};
use crate::kernels::view::View;
use crate::plan::{Step, WinogradLayer};
use crate::train::graph::{Branch, Node, NodeKind, Tensor};
use crate::train::parameters::ConvPlace;

impl Builder<'_> {
    /// The step that copies the images.
    pub(super) fn input(&mut self) {
        let [height, width, channels] = self.shapes[0];
        let shape = [self.shape.batch, height, width, channels].into();
        let layout = self.inputs.kernels.layout;
        let image = self.place(layout.image(Dtype::F32, shape, self.borders[0]));
        self.values[0] = Some(image);
        self.name = "input".into();
        let step = Step::Input(InputLayer {
            out: image.view,
            first_image: 0,
        });
        self.push(TrainStep::Run(step, WeightsAt::Parameters), &[image.slot]);
    }

    /// Appends the steps of a node.
    pub(super) fn forward(&mut self, node: &Node) {
        let border = match node.kind {
            NodeKind::Conv { .. } => 0,
            _ => self.borders[node.out],
        };
        let out = self.tensor(self.shapes[node.out], border);
        self.values[node.out] = Some(out);
        match &node.kind {
            NodeKind::Conv {
                input,
                conv,
                operation,
                norm,
                is_activated,
            } => {
                self.conv(self.value(*input), out, conv, *operation);
                if *is_activated {
                    self.statistics(node.out, *norm);
                }
            }
            NodeKind::Activate { a, b, relu } => {
                let mut slots = vec![out.slot];
                let mut summand = |branch: Branch| {
                    let value = self.value(branch.tensor());
                    slots.push(value.slot);
                    match branch {
                        Branch::Plain(_) => Summand::Plain(value.view),
                        Branch::Normalized(y) => {
                            let (coefficients, slot) = self.coefficients_of(y);
                            slots.push(slot);
                            Summand::Normalized(value.view, coefficients)
                        }
                    }
                };
                let step = Activate {
                    a: summand(*a),
                    b: b.map(summand),
                    relu: *relu,
                    out: out.view,
                };
                self.push(TrainStep::Activate(step), &slots);
            }
            NodeKind::MaxPool(input, window) => {
                let input = self.value(*input);
                let step = Step::MaxPool(MaxPoolLayer {
                    input: input.view,
                    out: out.view,
                    window: *window,
                });
                self.push_pool(step, input, out);
            }
            NodeKind::AvgPool(input, window) => {
                let input = self.value(*input);
                let step = Step::AvgPool(AvgPoolLayer {
                    input: input.view,
                    out: out.view,
                    window: *window,
                    first_channel: 0,
                    units: Units::SAME,
                });
                self.push_pool(step, input, out);
            }
            NodeKind::Pad(input, pad) => {
                let input = self.value(*input);
                let step = Step::AvgPool(AvgPoolLayer {
                    input: input.view,
                    out: out.view,
                    window: Some(pad.window),
                    first_channel: pad.before,
                    units: Units::SAME,
                });
                self.push_pool(step, input, out);
            }
        }
    }

    fn push_pool(&mut self, step: Step, input: Placed, out: Placed) {
        let step = TrainStep::Run(step, WeightsAt::Parameters);
        self.push(step, &[input.slot, out.slot]);
    }

    fn conv(&mut self, input: Placed, out: Placed, conv: &Convolution, operation: usize) {
        let parameters = self.inputs.parameters;
        let place = parameters.conv_of(operation);
        let is_image = input.slot == self.value(0).slot;
        let size = winograd_size(conv, &input.view, &out.view);
        let pays = size.is_some_and(|size| forward_winograd_pays(size, self.bf16.is_some()));
        if let Some(size) = size
            && self.inputs.winograd
            && pays
            && !is_image
        {
            self.winograd([input, out], size, place, [false, false]);
            return;
        }
        let layer = Conv {
            sources: vec![source(&input.view, place)],
            weights_bytes: place.first * size_of::<f32>(),
            residual: None,
            relu: false,
            out: out.view,
            grid: self.grid(&out.view, place.k()),
        };
        let Some(tile) = self.bf16 else {
            let step = TrainStep::Run(Step::Conv(layer), WeightsAt::Parameters);
            self.push(step, &[input.slot, out.slot]);
            return;
        };
        let mut weights = RoundPanels {
            weights_bytes: layer.weights_bytes,
            out_bytes: 0,
            panels: place.panels(),
            k: place.k(),
            nr: tile.nr,
        };
        let len_bytes = weights.len_bytes();
        let (slot, offset_bytes) = self.slots.add(len_bytes);
        weights.out_bytes = offset_bytes;
        self.push(TrainStep::Bf16Weights(weights), &[slot]);
        let layer = Conv {
            weights_bytes: 0,
            ..layer
        };
        let at = WeightsAt::Arena {
            offset_bytes,
            len_bytes,
        };
        let step = TrainStep::Bf16Conv(layer, at);
        self.push(step, &[input.slot, out.slot, slot]);
    }

    /// The items of the node's convolution to `out`, with windows of `k` values.
    pub(super) fn grid(&self, out: &View, k: usize) -> Grid {
        let (m, wanted) = (out.shape().pixels(), self.wanted_items());
        let tile = self.bf16.unwrap_or(self.inputs.kernels.f32);
        let panels = tile.panels(out.channels);
        match self.bf16 {
            None => Grid::choose(m, panels, tile.mr, wanted),
            Some(_) => MixedKernels::grid(m, k, panels, tile.mr, wanted),
        }
    }

    /// A convolution by Winograd's algorithm, of the weights or of the turned weights; it may add to the values
    /// that are in the output. In the forward pass its products are f32 in any case: see
    /// [`forward_winograd_pays`].
    pub(super) fn winograd(
        &mut self,
        [input, out]: [Placed; 2],
        size: TileSize,
        place: &ConvPlace,
        [transposed, accumulate]: [bool; 2],
    ) {
        let bf16 = self.bf16.filter(|_| transposed);
        let tile = bf16.unwrap_or(self.inputs.kernels.f32);
        let mut transform = TransformPacked {
            size,
            weights_bytes: place.first * size_of::<f32>(),
            out_bytes: 0,
            in_channels: place.conv.in_channels,
            out_channels: place.conv.out_channels,
            transposed,
            tile,
        };
        let len_bytes = transform.len_bytes();
        let (weights, offset_bytes) = self.slots.add(len_bytes);
        transform.out_bytes = offset_bytes;
        self.push(TrainStep::Transform(transform), &[weights]);

        let layer = WinogradLayer::new(
            size,
            self.shape.batch,
            &input.view,
            &out.view,
            self.inputs.kernels.layout,
            self.threads,
        );
        let (v, v_offset) = self.slots.add(layer.v.len_bytes());
        let (p, p_offset) = self.slots.add(layer.p.len_bytes());
        let layer = layer.placed(v_offset, p_offset);
        let wanted = self.wanted_items();
        let adds = [accumulate, false];
        for step in layer.steps(input.view, out.view, adds, 0, tile, wanted) {
            let at = WeightsAt::Arena {
                offset_bytes,
                len_bytes,
            };
            let slots = [input.slot, out.slot, weights, v, p];
            let step = match step {
                Step::WinogradProducts(products) if bf16.is_some() => {
                    TrainStep::Bf16Products(products, at)
                }
                step => TrainStep::Run(step, at),
            };
            self.push(step, &slots);
        }
    }

    /// The statistics of a convolution's output, and the coefficients that follow from them.
    fn statistics(&mut self, y: Tensor, norm: Option<(usize, f64)>) {
        let out = self.value(y);
        let channels = out.view.channels;
        let (slot, offset) = self.slots.add(Coefficients::len_bytes(channels));
        let coefficients = Coefficients {
            bytes: offset,
            channels,
        };
        self.coefficients[y] = Some((coefficients, slot));
        let from_batch = norm.filter(|&(operation, _)| self.inputs.trainable.0[operation]);
        let blocks = from_batch.map(|_| self.blocks(&out.view));
        if let Some((blocks, blocks_bytes)) = blocks {
            let step = Statistics {
                y: out.view,
                blocks_bytes,
            };
            self.push(TrainStep::Statistics(step), &[out.slot, blocks]);
        }
        let step = FinishStatistics {
            y: out.view,
            blocks_bytes: blocks.map(|(_, bytes)| bytes),
            coefficients,
            norm: norm.map(|(operation, _)| self.norm_places(operation)),
            epsilon: norm.map_or(0.0, |(_, epsilon)| epsilon),
            momentum: self.inputs.momentum,
        };
        let mut slots = vec![out.slot, slot];
        slots.extend(blocks.map(|(blocks, _)| blocks));
        self.push(TrainStep::FinishStatistics(step), &slots);
    }

    /// A place for two sums of each block of a tensor.
    pub(super) fn blocks(&mut self, view: &View) -> (Slot, usize) {
        self.slots.add(Statistics::len_bytes(view))
    }

    /// The places of a batch norm's parameters and statistics.
    pub(super) fn norm_places(&self, operation: usize) -> (GammaBeta, Running) {
        let [gamma, beta, mean, variance] = self.inputs.parameters.norm_of(operation);
        (GammaBeta { gamma, beta }, Running { mean, variance })
    }
}

/// The input of a convolution, as its panels read it.
pub(super) fn source(input: &View, place: &ConvPlace) -> Source {
    Source::grouped(*input, place.conv.window(), place.channels, place.panels())
}
