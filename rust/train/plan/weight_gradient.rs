//! The steps of a convolution's gradient by its weights.

use super::build::{Builder, Placed};
use super::choose::winograd_gradient_size;
use super::forward::source;
use super::slots::Slot;
use super::step::{OutAt, TrainStep, WeightsAt};
use crate::dtype::Dtype;
use crate::kernels::conv::f32::{
    BiasGradient, GradientInput, MaskGroups, SumParts, WeightGradient,
};
use crate::kernels::conv::winograd::{
    TileBlock, TileSize, TransformGradient, TransformInput, WeightsGradient,
};
use crate::kernels::norm::{Activate, Summand};
use crate::kernels::view::View;
use crate::plan::Step;
use crate::train::graph::Tensor;
use crate::train::parameters::ConvPlace;

/// Bytes of the transformed tiles of a weight gradient, both factors together.
const BLOCK_BYTES: usize = 8 << 20;

/// Channels of all tiles of an item of a transform: an item takes about a microsecond.
const CHANNELS_PER_ITEM: usize = 512;

impl Builder<'_> {
    /// The gradient of a convolution by its weights and biases.
    pub(super) fn weight_gradient(&mut self, input: Tensor, gradient: Placed, place: &ConvPlace) {
        let size = winograd_gradient_size(&place.conv, &self.value(input).view, &gradient.view);
        match size {
            Some(size) if self.inputs.winograd && input != 0 => {
                self.winograd_weight_gradient(input, gradient, place, size);
            }
            _ => self.direct_weight_gradient(input, gradient, place),
        }
        if place.conv.bias {
            self.bias_gradient(gradient, place);
        }
    }

    /// The same from the pixels as they are.
    fn direct_weight_gradient(&mut self, input: Tensor, gradient: Placed, place: &ConvPlace) {
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
        let tile = self.bf16.unwrap_or(self.inputs.kernels.f32);
        let dy = gradient.view;
        let shape = [tile.mr, tile.nr];
        let wanted = self.wanted_items();
        let step = WeightGradient::new(from, dy, self.accumulate, shape, wanted);
        let (parts, len) = (step.parts(), step.part_len());
        if parts == 1 {
            self.push_gradient(step, OutAt::Gradients(place.first), &slots);
        } else {
            let (slot, offset) = self.slots.add(parts * len * size_of::<f32>());
            slots.push(slot);
            self.push_gradient(step, OutAt::Arena(offset), &slots);
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
    }

    /// Appends the product in the node's precision.
    fn push_gradient(&mut self, step: WeightGradient, at: OutAt, slots: &[Slot]) {
        let step = match self.bf16 {
            None => TrainStep::WeightGradient(step, at),
            Some(_) => TrainStep::Bf16WeightGradient(step, at),
        };
        self.push(step, slots);
    }

    /// The same by Winograd's transforms, block of tiles by block.
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
        let tile = self.bf16.unwrap_or(self.inputs.kernels.f32);
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
            self.push_gradient(product, OutAt::Arena(offset), &[v.slot, p.slot, slot]);
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
}
