//! The steps of a convolution's gradient by its input.

use super::build::{Builder, Placed};
use super::choose::winograd_size;
use super::reach::phases;
use super::step::{TrainStep, WeightsAt};
use crate::graph::operations::Convolution;
use crate::kernels::conv::f32::TransposedWeights;
use crate::kernels::conv::{ChannelWindow, Conv, Source};
use crate::plan::Step;
use crate::train::graph::Tensor;
use crate::train::parameters::ConvPlace;

impl Builder<'_> {
    /// The gradient of a convolution by its input.
    pub(super) fn input_gradient(
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
                let len_bytes = match self.bf16 {
                    None => weights.len_bytes(),
                    Some(_) => weights.bf16_len_bytes(),
                };
                let (slot, offset_bytes) = self.slots.add(len_bytes);
                weights.out_bytes = offset_bytes;
                let step = match self.bf16 {
                    None => TrainStep::Transposed(weights),
                    Some(_) => TrainStep::Bf16Transposed(weights),
                };
                self.push(step, &[slot]);
                let out = target.view.every(conv.stride, [row.first, column.first]);
                let source = Source::at_offsets(gradient.view, &offsets, transposed, panels);
                let layer = Conv {
                    grid: self.grid(&out, source.k()),
                    sources: vec![source],
                    weights_bytes: 0,
                    residual: accumulate.then_some(out),
                    relu: false,
                    out,
                };
                let at = WeightsAt::Arena {
                    offset_bytes,
                    len_bytes,
                };
                let step = match self.bf16 {
                    None => TrainStep::Run(Step::Conv(layer), at),
                    Some(_) => TrainStep::Bf16Conv(layer, at),
                };
                self.push(step, &[gradient.slot, into.slot, slot]);
            }
        }
    }
}
