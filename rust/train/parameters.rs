//! The parameters in memory, and their names.
//!
//! Convolutions' weights stay in the packed form that the kernels read, step after step: panels of NR output
//! channels, a row for each k. Gradients, momenta and averages have the same form, so that an optimiser
//! walks over all of them side by side. torchvision's names and layout (OIHW) are only at the door.

use std::collections::HashMap;
use std::ops::Range;

use crate::graph::operations::{Convolution, Kind, Operation};
use crate::kernels::conv::f32::{packed_len, panel_len};
use crate::kernels::conv::{ChannelWindow, TileShape};
use crate::kernels::view::line_of;

/// The place of a convolution's weights.
#[derive(Clone, Debug)]
pub struct ConvPlace {
    /// The first element.
    pub first: usize,
    /// The numbers of the convolution.
    pub conv: Convolution,
    /// The input channels that each panel reads.
    pub channels: ChannelWindow,
    /// Channels of a panel.
    pub nr: usize,
}

impl ConvPlace {
    fn new(first: usize, conv: Convolution, nr: usize) -> Self {
        let channels = ChannelWindow::new(conv.in_channels, conv.out_channels, conv.groups, nr);
        Self {
            first,
            conv,
            channels,
            nr,
        }
    }

    /// K of a panel.
    pub fn k(&self) -> usize {
        self.conv.kernel * self.conv.kernel * self.channels.len
    }

    /// Elements of all panels.
    pub fn len(&self) -> usize {
        packed_len(self.conv.out_channels, self.k(), self.nr)
    }

    /// The number of panels.
    pub fn panels(&self) -> usize {
        self.conv.out_channels.div_ceil(self.nr)
    }

    /// Calls `visit` with the place in the buffers and the index in the plain order of each bias.
    fn each_bias(&self, mut visit: impl FnMut(usize, usize)) {
        for o in 0..self.conv.out_channels {
            visit(self.panel(o / self.nr) + o % self.nr, o);
        }
    }

    /// Calls `visit` with the place in the buffers and the index in OIHW of each weight.
    ///
    /// A panel's rows are read one after the other, so that one side is contiguous. On the other side a block
    /// of input channels fills whole cache lines before it goes on to the next.
    fn each_weight(&self, mut visit: impl FnMut(usize, usize)) {
        let taps = self.conv.kernel * self.conv.kernel;
        for panel in 0..self.panels() {
            let rows = self.panel(panel) + self.nr;
            let start = self.channels.start(panel);
            let outs = panel * self.nr..((panel + 1) * self.nr).min(self.conv.out_channels);
            let mut from = outs.start;
            while from < outs.end {
                // The channels of the panel that read the same inputs.
                let group = self.channels.group(from);
                let same = |&o: &usize| self.channels.group(o) == group;
                let to = from + (from..outs.end).take_while(same).count();
                for block in group.clone().step_by(INPUTS) {
                    for tap in 0..taps {
                        for i in block..(block + INPUTS).min(group.end) {
                            let row = rows + (tap * self.channels.len + i - start) * self.nr;
                            let column = (i - group.start) * taps + tap;
                            for o in from..to {
                                visit(row + o - outs.start, o * group.len() * taps + column);
                            }
                        }
                    }
                }
                from = to;
            }
        }
    }

    /// The first element of a panel.
    fn panel(&self, panel: usize) -> usize {
        self.first + panel * panel_len(self.k(), self.nr)
    }
}

/// Input channels that are copied together: with a kernel of 1x1, a cache line of each output channel.
const INPUTS: usize = 16;

/// A tensor of the state.
#[derive(Clone, Debug)]
pub enum Place {
    /// A convolution's weights, by the index of its place.
    Weights(usize),
    /// Its biases.
    Biases(usize),
    /// Elements side by side.
    Vector(Range<usize>),
}

/// A named tensor and its place.
#[derive(Clone, Debug)]
pub struct Named {
    /// torchvision's name.
    pub name: String,
    /// torchvision's shape.
    pub shape: Vec<usize>,
    /// The place.
    pub place: Place,
    /// The operation that it belongs to.
    pub operation: usize,
}

/// The places of all parameters, and of all running statistics.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    /// The trainable tensors, in torchvision's order.
    pub tensors: Vec<Named>,
    /// The running statistics, with places of their own.
    pub statistics: Vec<Named>,
    /// The convolutions.
    pub convs: Vec<ConvPlace>,
    /// The index of an operation's convolution.
    conv_of: HashMap<usize, usize>,
    /// The first γ and β of an operation's batch norm, the first running mean and variance.
    norm_of: HashMap<usize, [usize; 4]>,
    /// Elements of all parameters.
    pub len: usize,
    /// Elements of all running statistics.
    pub statistics_len: usize,
}

impl Parameters {
    /// Lays out the parameters of `operations` for a tier's tiles.
    pub fn new(operations: &[Operation], tile: TileShape) -> Self {
        let mut all = Self::default();
        for (i, operation) in operations.iter().enumerate() {
            if let Some(conv) = operation.convolution() {
                all.conv(i, operation, conv, tile.nr);
            } else if let Kind::BatchNorm { channels, .. } = operation.kind {
                all.norm(i, operation, channels);
            }
        }
        all
    }

    fn conv(&mut self, i: usize, operation: &Operation, conv: Convolution, nr: usize) {
        let place = ConvPlace::new(self.len, conv, nr);
        self.len = (place.first + place.len()).next_multiple_of(line_of::<f32>());
        let index = self.convs.len();
        self.convs.push(place);
        self.conv_of.insert(i, index);
        for (name, shape) in operation.named_parameters() {
            let place = match shape.len() {
                1 => Place::Biases(index),
                _ => Place::Weights(index),
            };
            self.tensors.push(Named {
                name,
                shape,
                place,
                operation: i,
            });
        }
    }

    fn norm(&mut self, i: usize, operation: &Operation, channels: usize) {
        let padded = channels.next_multiple_of(line_of::<f32>());
        let mut firsts = [0; 4];
        for (part, (name, shape)) in operation.named_parameters().into_iter().enumerate() {
            let (end, list) = match part {
                0 | 1 => (&mut self.len, &mut self.tensors),
                _ => (&mut self.statistics_len, &mut self.statistics),
            };
            firsts[part] = *end;
            list.push(Named {
                name,
                shape,
                place: Place::Vector(*end..*end + channels),
                operation: i,
            });
            *end += padded;
        }
        self.norm_of.insert(i, firsts);
    }

    /// The convolution of operation `i`.
    ///
    /// # Panics
    /// If the operation is none.
    pub fn conv_of(&self, i: usize) -> &ConvPlace {
        &self.convs[self.conv_of[&i]]
    }

    /// The first γ, β, running mean and running variance of operation `i`.
    ///
    /// # Panics
    /// If the operation is no batch norm.
    pub fn norm_of(&self, i: usize) -> [usize; 4] {
        self.norm_of[&i]
    }

    /// Copies a tensor out of `buffer`.
    pub fn read(&self, named: &Named, buffer: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; named.shape.iter().product()];
        match &named.place {
            Place::Weights(index) => self.convs[*index].each_weight(|at, i| out[i] = buffer[at]),
            Place::Biases(index) => self.convs[*index].each_bias(|at, i| out[i] = buffer[at]),
            Place::Vector(range) => out.copy_from_slice(&buffer[range.clone()]),
        }
        out
    }

    /// Copies a tensor into `buffer`.
    ///
    /// # Panics
    /// If `values` has another number of elements than the tensor.
    pub fn write(&self, named: &Named, values: &[f32], buffer: &mut [f32]) {
        assert_eq!(values.len(), named.shape.iter().product::<usize>());
        match &named.place {
            Place::Weights(index) => self.convs[*index].each_weight(|at, i| buffer[at] = values[i]),
            Place::Biases(index) => self.convs[*index].each_bias(|at, i| buffer[at] = values[i]),
            Place::Vector(range) => buffer[range.clone()].copy_from_slice(values),
        }
    }

    /// The runs of elements of a tensor in the buffers. A convolution's weights are the rows of its panels,
    /// with zeros where a panel has no channel.
    pub fn runs(&self, place: &Place) -> Vec<Range<usize>> {
        match place {
            Place::Vector(range) => vec![range.clone()],
            Place::Weights(index) | Place::Biases(index) => {
                let conv = &self.convs[*index];
                let (nr, len) = (conv.nr, panel_len(conv.k(), conv.nr));
                let panel = |p: usize| conv.first + p * len..conv.first + (p + 1) * len;
                (0..conv.panels())
                    .map(|p| match place {
                        Place::Biases(_) => panel(p).start..panel(p).start + nr,
                        _ => panel(p).start + nr..panel(p).end,
                    })
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::Dtype;
    use crate::graph::family;

    #[test]
    fn tensors_come_out_as_they_went_in_and_share_no_element() {
        for name in ["resnet18", "resnext50_32x4d", "cifar_resnet20"] {
            let operations = family::named(name).unwrap().operations(10, 1);
            for (mr, nr) in [(14, 32), (6, 16), (4, 8)] {
                let tile = TileShape {
                    dtype: Dtype::F32,
                    depth: 1,
                    header: 1,
                    mr,
                    nr,
                };
                let parameters = Parameters::new(&operations, tile);
                let mut buffer = vec![0.0; parameters.len];
                // Exact in f32.
                let value = |i: usize| (i % 65_521) as f32 + 1.0;
                let mut count = 0;
                for named in &parameters.tensors {
                    let len = named.shape.iter().product::<usize>();
                    let values: Vec<f32> = (count..count + len).map(value).collect();
                    parameters.write(named, &values, &mut buffer);
                    count += len;
                }
                assert_eq!(buffer.iter().filter(|&&x| x != 0.0).count(), count);
                let mut next = 0;
                for named in &parameters.tensors {
                    for v in &parameters.read(named, &buffer) {
                        assert_eq!(*v, value(next), "{name} {}", named.name);
                        next += 1;
                    }
                }
            }
        }
    }
}
