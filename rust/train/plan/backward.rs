//! The steps of the backward pass.

use super::build::{Builder, Placed};
use super::choose::{winograd_gradient_size, winograd_size};
use super::forward::source;
use super::reach::phases;
use super::step::{OutAt, TrainStep, WeightsAt};
use crate::dtype::Dtype;
use crate::graph::operations::Convolution;
use crate::kernels::conv::f32::{
    BiasGradient, GradientInput, MaskGroups, SumParts, TransposedWeights, WeightGradient,
};
use crate::kernels::conv::winograd::{
    TileBlock, TileSize, TransformGradient, TransformInput, WeightsGradient,
};
use crate::kernels::conv::{ChannelWindow, Conv, Grid, Source};
use crate::kernels::loss::CrossEntropyLayer;
use crate::kernels::norm::{Activate, FinishGradient, GradientSums, Mask, NormGradient, Summand};
use crate::kernels::pool::{AvgPoolGradient, MaxPoolGradient, NormBytes};
use crate::kernels::view::View;
use crate::plan::Step;
use crate::train::graph::{Branch, Node, NodeKind, Tensor};
use crate::train::parameters::ConvPlace;

/// Bytes of the transformed tiles of a weight gradient, both factors together.
const BLOCK_BYTES: usize = 8 << 20;

/// Channels of all tiles of an item of a transform: an item takes about a microsecond.
const CHANNELS_PER_ITEM: usize = 512;

impl Builder<'_> {
    /// The step that computes the loss and its gradient by the logits.
    pub(super) fn loss(&mut self) {
        let logits = self.inputs.graph.logits;
        let gradient = self.tensor(self.shapes[logits], self.gradient_borders[logits]);
        self.gradients[logits] = Some(gradient);
        self.name = "loss".into();
        let value = self.value(logits);
        let step = CrossEntropyLayer {
            logits: value.view,
            gradient: Some(gradient.view),
        };
        self.push(TrainStep::Loss(step), &[value.slot, gradient.slot]);
        self.zero_border(gradient);
    }

    /// Appends the steps of a node.
    pub(super) fn backward(&mut self, node: &Node) {
        let Some(gradient) = self.gradients[node.out] else {
            return;
        };
        match &node.kind {
            NodeKind::Conv {
                input,
                conv,
                operation,
                ..
            } => {
                let place = self.inputs.parameters.conv_of(*operation);
                if self.inputs.trainable.0[*operation] {
                    self.weight_gradient(*input, gradient, place);
                }
                if self.needed[*input] {
                    self.input_gradient(*input, gradient, conv, place);
                }
            }
            NodeKind::Activate { a, b: None, relu } if matches!(a, Branch::Normalized(_)) => {
                let mask = if *relu { Mask::Normalized } else { Mask::None };
                self.sums(a.tensor(), gradient, mask);
                self.norm_gradient(a.tensor(), gradient, *relu, gradient);
            }
            NodeKind::Activate { a, b, relu } => {
                self.sum_gradient(node.out, gradient, *a, *b, *relu);
            }
            NodeKind::MaxPool(input, window) if self.needed[*input] => {
                let (into, add) = self.gradient_of(*input);
                let target = if add { self.like(into) } else { into };
                let (value, norm, slots) = match self.inputs.graph.recomputed_from(*input) {
                    Some(y) => {
                        let (coefficients, slot) = self.coefficients_of(y);
                        let norm = NormBytes {
                            scale_bytes: coefficients.scale_bytes(),
                            shift_bytes: coefficients.shift_bytes(),
                        };
                        let value = self.value(y);
                        (value.view, Some(norm), vec![value.slot, slot])
                    }
                    None => {
                        let value = self.value(*input);
                        (value.view, None, vec![value.slot])
                    }
                };
                let step = MaxPoolGradient {
                    input: value,
                    norm,
                    out_gradient: gradient.view,
                    in_gradient: target.view,
                    window: *window,
                };
                let slots = [slots, vec![gradient.slot, target.slot]].concat();
                self.push(TrainStep::MaxPoolGradient(step), &slots);
                if add {
                    self.add(target, into);
                }
            }
            NodeKind::AvgPool(input, window) if self.needed[*input] => {
                let (into, accumulate) = self.gradient_of(*input);
                let step = AvgPoolGradient {
                    out_gradient: gradient.view,
                    in_gradient: into.view,
                    window: *window,
                    first_channel: 0,
                    accumulate,
                };
                self.push(
                    TrainStep::AvgPoolGradient(step),
                    &[gradient.slot, into.slot],
                );
            }
            NodeKind::Pad(input, pad) if self.needed[*input] => {
                let (into, accumulate) = self.gradient_of(*input);
                let step = AvgPoolGradient {
                    out_gradient: gradient.view,
                    in_gradient: into.view,
                    window: Some(pad.window),
                    first_channel: pad.before,
                    accumulate,
                };
                self.push(
                    TrainStep::AvgPoolGradient(step),
                    &[gradient.slot, into.slot],
                );
            }
            _ => {}
        }
    }

    /// True if a gradient by `branch` is of use.
    pub(super) fn trains(&self, branch: Branch) -> bool {
        match branch {
            Branch::Plain(t) => self.needed[t],
            Branch::Normalized(y) => self.needed[y] || self.trained_norm(y).is_some(),
        }
    }

    /// The batch norm of a convolution's output, if it trains.
    fn trained_norm(&self, y: Tensor) -> Option<usize> {
        let graph = self.inputs.graph;
        let node = &graph.nodes[graph.producer[y]?];
        match node.kind {
            NodeKind::Conv {
                norm: Some((operation, _)),
                ..
            } => self.inputs.trainable.0[operation].then_some(operation),
            _ => None,
        }
    }

    /// The place of a tensor's gradient, and true if there is a part of it already.
    fn gradient_of(&mut self, tensor: Tensor) -> (Placed, bool) {
        if let Some(placed) = self.gradients[tensor] {
            return (placed, true);
        }
        let placed = self.tensor(self.shapes[tensor], self.gradient_borders[tensor]);
        self.gradients[tensor] = Some(placed);
        (placed, false)
    }

    /// A new tensor of the same shape.
    fn like(&mut self, placed: Placed) -> Placed {
        let view = placed.view;
        self.tensor([view.height, view.width, view.channels], view.border)
    }

    /// `to += from`.
    fn add(&mut self, from: Placed, to: Placed) {
        let out = to.view.without_border();
        let step = Activate {
            a: Summand::Plain(to.view),
            b: Some(Summand::Plain(from.view)),
            relu: false,
            out,
        };
        self.push(TrainStep::Activate(step), &[from.slot, to.slot]);
    }

    /// Zeros around a gradient, if its readers need them.
    fn zero_border(&mut self, gradient: Placed) {
        if gradient.view.border > 0 {
            self.push(TrainStep::ZeroBorder(gradient.view), &[gradient.slot]);
        }
    }

    /// The sums of a batch norm's backward pass; those of a batch norm that does not train are not needed. A
    /// mask from memory is applied in place.
    fn sums(&mut self, y: Tensor, gradient: Placed, mask: Mask) {
        let Some(operation) = self.trained_norm(y) else {
            if matches!(mask, Mask::Output(_)) {
                self.mask(gradient, mask, &[]);
            }
            return;
        };
        let value = self.value(y);
        let (coefficients, slot) = self.coefficients_of(y);
        let (blocks, blocks_bytes) = self.blocks(&value.view);
        let step = GradientSums {
            gradient: gradient.view,
            norm: Some((value.view, coefficients, blocks_bytes)),
            mask,
        };
        self.push(
            TrainStep::GradientSums(step),
            &[gradient.slot, value.slot, slot, blocks],
        );
        let (gradients, _) = self.norm_places(operation);
        let step = FinishGradient {
            y: value.view,
            blocks_bytes,
            coefficients,
            gradients,
            accumulate: self.accumulate,
        };
        self.push(TrainStep::FinishGradient(step), &[slot, blocks]);
    }

    /// Masks a gradient in place.
    fn mask(&mut self, gradient: Placed, mask: Mask, slots: &[usize]) {
        let step = GradientSums {
            gradient: gradient.view,
            norm: None,
            mask,
        };
        self.push(
            TrainStep::GradientSums(step),
            &[&[gradient.slot], slots].concat(),
        );
    }

    /// From the gradient of an activation to that of the convolution's output, in `out`.
    fn norm_gradient(&mut self, y: Tensor, gradient: Placed, mask: bool, out: Placed) {
        if !self.needed[y] {
            return;
        }
        let value = self.value(y);
        let (coefficients, slot) = self.coefficients_of(y);
        let step = NormGradient {
            gradient: gradient.view,
            y: value.view,
            coefficients,
            mask,
            out: out.view,
        };
        self.push(
            TrainStep::NormGradient(step),
            &[gradient.slot, value.slot, slot, out.slot],
        );
        self.gradients[y] = Some(out);
    }

    /// Backwards through an addition and its ReLU.
    fn sum_gradient(
        &mut self,
        out: Tensor,
        gradient: Placed,
        a: Branch,
        b: Option<Branch>,
        relu: bool,
    ) {
        let branches: Vec<Branch> = [Some(a), b].into_iter().flatten().collect();
        let value = self.value(out);
        let mut mask = match relu {
            true => Mask::Output(value.view),
            false => Mask::None,
        };
        // The first batch norm's sums mask the gradient on the way; its steps use the activation too.
        let normalized: Vec<Tensor> = branches
            .iter()
            .filter_map(|branch| match branch {
                Branch::Normalized(y) if self.trains(*branch) => Some(*y),
                _ => None,
            })
            .collect();
        for &y in &normalized {
            self.sums(y, gradient, mask);
            if matches!(mask, Mask::Output(_)) {
                let last = self.steps.len() - 1;
                self.slots.touch(value.slot, last);
            }
            mask = Mask::None;
        }
        if normalized.is_empty() && relu {
            self.mask(gradient, mask, &[value.slot]);
        }
        let plain: Vec<Tensor> = branches
            .iter()
            .filter_map(|branch| match branch {
                Branch::Plain(t) if self.needed[*t] => Some(*t),
                _ => None,
            })
            .collect();
        // The last one to read the gradient takes its place.
        for (i, &y) in normalized.iter().enumerate() {
            let is_last = i + 1 == normalized.len() && plain.is_empty();
            let into = if is_last {
                gradient
            } else {
                self.like(gradient)
            };
            self.norm_gradient(y, gradient, false, into);
        }
        for (i, &t) in plain.iter().enumerate() {
            match self.gradients[t] {
                Some(into) => self.add(gradient, into),
                None if i + 1 == plain.len() => {
                    self.gradients[t] = Some(gradient);
                    if self.gradient_borders[t] > 0 {
                        self.zero_border(gradient);
                    }
                }
                None => {
                    let (into, _) = self.gradient_of(t);
                    let step = Activate {
                        a: Summand::Plain(gradient.view),
                        b: None,
                        relu: false,
                        out: into.view,
                    };
                    self.push(TrainStep::Activate(step), &[gradient.slot, into.slot]);
                }
            }
        }
    }

    /// The gradient of a convolution by its weights.
    fn weight_gradient(&mut self, input: Tensor, gradient: Placed, place: &ConvPlace) {
        let size = winograd_gradient_size(&place.conv, &self.value(input).view, &gradient.view);
        if let Some(size) = size
            && self.inputs.winograd
            && input != 0
        {
            self.winograd_weight_gradient(input, gradient, place, size);
            return;
        }
        let (from, mut slots) = match self.inputs.graph.recomputed_from(input) {
            Some(y) => {
                let (coefficients, slot) = self.coefficients_of(y);
                let value = self.value(y);
                let from = GradientInput::Normalized {
                    y: value.view,
                    scale_bytes: coefficients.scale_bytes(),
                    shift_bytes: coefficients.shift_bytes(),
                    window: place.conv.window(),
                    channels: place.channels,
                };
                (from, vec![value.slot, slot])
            }
            None => {
                let value = self.value(input);
                (
                    GradientInput::Stored(source(&value.view, place)),
                    vec![value.slot],
                )
            }
        };
        slots.push(gradient.slot);
        let tile = self.inputs.kernels.f32;
        let dy = gradient.view;
        let step = WeightGradient::new(from, dy, self.accumulate, [tile.mr, tile.nr]);
        let (parts, len) = (step.parts(), step.part_len());
        if parts == 1 {
            let at = OutAt::Gradients(place.first);
            self.push(TrainStep::WeightGradient(step, at), &slots);
        } else {
            let (slot, offset) = self.slots.add(parts * len * size_of::<f32>());
            slots.push(slot);
            let at = OutAt::Arena(offset);
            self.push(TrainStep::WeightGradient(step, at), &slots);
            let sum = SumParts {
                parts_bytes: offset,
                count: parts,
                panels: place.panels(),
                k: place.k(),
                nr: place.nr,
                first: place.first,
                accumulate: self.accumulate,
            };
            self.push(TrainStep::SumParts(sum), &[slot]);
        }
        if place.conv.groups > 1 {
            let step = MaskGroups {
                first: place.first,
                channels: place.channels,
                out_channels: place.conv.out_channels,
                taps: place.conv.kernel * place.conv.kernel,
                nr: place.nr,
            };
            self.push(TrainStep::MaskGroups(step), &[]);
        }
        if place.conv.bias {
            self.bias_gradient(gradient, place);
        }
    }

    /// The gradient of a convolution by its weights, by Winograd's transforms, block of tiles by block.
    fn winograd_weight_gradient(
        &mut self,
        input: Tensor,
        gradient: Placed,
        place: &ConvPlace,
        size: TileSize,
    ) {
        let value = match self.inputs.graph.recomputed_from(input) {
            None => self.value(input),
            Some(y) => {
                let (coefficients, slot) = self.coefficients_of(y);
                let from = self.value(y);
                let out = self.tensor(self.shapes[input], place.conv.padding);
                let step = Activate {
                    a: Summand::Normalized(from.view, coefficients),
                    b: None,
                    relu: true,
                    out: out.view,
                };
                self.push(TrainStep::Activate(step), &[from.slot, slot, out.slot]);
                out
            }
        };
        let (points, dy) = (size.points(), gradient.view);
        let [in_channels, out_channels] = [place.conv.in_channels, place.conv.out_channels];
        let all = dy.batch * size.tiles(dy.height, dy.width);
        let tile_bytes = points * (in_channels + out_channels) * Dtype::F32.size();
        let most = (BLOCK_BYTES / tile_bytes).clamp(1, all);
        let block = all.div_ceil(all.div_ceil(most));
        let layout = self.inputs.kernels.layout;
        let [v, p] = [in_channels, out_channels]
            .map(|channels| self.place(layout.matrices(Dtype::F32, points, block, channels)));
        let tile = self.inputs.kernels.f32;
        let mut u = None;
        for start in (0..all).step_by(block) {
            let tiles = start..(start + block).min(all);
            let rows = tiles.len();
            let of = |channels: usize| TileBlock {
                size,
                tiles: tiles.clone(),
                tiles_per_item: CHANNELS_PER_ITEM.div_ceil(channels),
            };
            let step = Step::WinogradInput(TransformInput {
                block: of(in_channels),
                input: value.view,
                v: v.view,
            });
            self.push(
                TrainStep::Run(step, WeightsAt::Parameters),
                &[value.slot, v.slot],
            );
            let step = TransformGradient {
                block: of(out_channels),
                gradient: dy,
                p: p.view,
            };
            self.push(TrainStep::TransformGradient(step), &[gradient.slot, p.slot]);
            // The first rows of each point's matrix; the last block may be shorter.
            let [v_rows, p_rows] = [v.view, p.view].map(|view| View {
                width: rows,
                ..view
            });
            let shape = [tile.mr, tile.nr];
            let product = WeightGradient::of_points(v_rows, p_rows, start > 0, shape);
            let (slot, offset) = *u.get_or_insert_with(|| {
                let bytes = points * product.part_len() * Dtype::F32.size();
                self.slots.add(bytes)
            });
            self.push(
                TrainStep::WeightGradient(product, OutAt::Arena(offset)),
                &[v.slot, p.slot, slot],
            );
        }
        let Some((slot, u_bytes)) = u else { return };
        let step = WeightsGradient {
            size,
            u_bytes,
            first: place.first,
            in_channels,
            out_channels,
            nr: tile.nr,
            accumulate: self.accumulate,
        };
        self.push(TrainStep::WeightsGradient(step), &[slot]);
        if place.conv.bias {
            self.bias_gradient(gradient, place);
        }
    }

    /// The gradient of a convolution's biases.
    fn bias_gradient(&mut self, gradient: Placed, place: &ConvPlace) {
        let step = BiasGradient {
            gradient: gradient.view,
            first: place.first,
            k: place.k(),
            nr: place.nr,
            accumulate: self.accumulate,
        };
        self.push(TrainStep::BiasGradient(step), &[gradient.slot]);
    }

    /// The gradient of a convolution by its input.
    fn input_gradient(
        &mut self,
        input: Tensor,
        gradient: Placed,
        conv: &Convolution,
        place: &ConvPlace,
    ) {
        let (into, accumulate) = self.gradient_of(input);
        let target = Placed {
            view: into.view.without_border(),
            ..into
        };
        let size = winograd_size(conv, &gradient.view, &target.view);
        if let Some(size) = size
            && self.inputs.winograd
        {
            self.winograd([gradient, target], size, place, [true, accumulate]);
            return;
        }
        let window = conv.window();
        let rows = phases(window, target.view.height);
        let columns = phases(window, target.view.width);
        let has_gaps = rows.iter().chain(&columns).any(|p| p.taps.is_empty());
        if has_gaps && !accumulate {
            self.push(TrainStep::Zero(into.view), &[into.slot]);
        }
        let tile = self.inputs.kernels.f32;
        let transposed =
            ChannelWindow::new(conv.out_channels, conv.in_channels, conv.groups, tile.nr);
        let panels = tile.panels(conv.in_channels);
        for row in &rows {
            for column in &columns {
                if row.taps.is_empty() || column.taps.is_empty() {
                    continue;
                }
                let (mut taps, mut offsets) = (Vec::new(), Vec::new());
                for &(ky, y) in &row.taps {
                    for &(kx, x) in &column.taps {
                        taps.push(ky * conv.kernel + kx);
                        offsets.push([y, x]);
                    }
                }
                let mut weights = TransposedWeights {
                    weights_bytes: place.first * size_of::<f32>(),
                    out_bytes: 0,
                    taps,
                    window_taps: conv.kernel * conv.kernel,
                    channels: place.channels,
                    transposed,
                    out_channels: conv.out_channels,
                    nr: tile.nr,
                };
                let len_bytes = weights.len_bytes();
                let (slot, offset_bytes) = self.slots.add(len_bytes);
                weights.out_bytes = offset_bytes;
                self.push(TrainStep::Transposed(weights), &[slot]);
                let out = target.view.every(conv.stride, [row.first, column.first]);
                let m = out.shape().pixels();
                let step = Step::Conv(Conv {
                    sources: vec![Source::at_offsets(
                        gradient.view,
                        &offsets,
                        transposed,
                        panels,
                    )],
                    weights_bytes: 0,
                    residual: accumulate.then_some(out),
                    relu: false,
                    out,
                    grid: Grid::choose(m, panels, tile.mr, self.wanted_items()),
                });
                let at = WeightsAt::Arena {
                    offset_bytes,
                    len_bytes,
                };
                self.push(TrainStep::Run(step, at), &[gradient.slot, into.slot, slot]);
            }
        }
    }
}
