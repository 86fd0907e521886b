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

    /// The place of output channel `o`'s bias.
    fn bias(&self, o: usize) -> usize {
        self.first + o / self.nr * panel_len(self.k(), self.nr) + o % self.nr
    }

    /// The places of output channel `o`'s weights, in the order of OIHW.
    fn weights(&self, o: usize) -> impl Iterator<Item = usize> + '_ {
        let panel = o / self.nr;
        let first = self.first + panel * panel_len(self.k(), self.nr) + self.nr + o % self.nr;
        let start = self.channels.start(panel);
        let taps = self.conv.kernel * self.conv.kernel;
        self.channels.group(o).flat_map(move |i| {
            (0..taps).map(move |tap| first + (tap * self.channels.len + i - start) * self.nr)
        })
    }
}

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
            match &operation.kind {
                Kind::Conv(conv) => all.conv(i, operation, conv.clone(), tile.nr),
                &Kind::Linear {
                    channels,
                    side,
                    classes,
                } => {
                    let conv = Convolution {
                        in_channels: channels,
                        out_channels: classes,
                        kernel: side,
                        stride: 1,
                        padding: 0,
                        dilation: 1,
                        groups: 1,
                        bias: true,
                    };
                    all.conv(i, operation, conv, tile.nr);
                }
                &Kind::BatchNorm { channels, .. } => all.norm(i, operation, channels),
                _ => {}
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

    /// The elements of a tensor, one by one in torchvision's order.
    fn places<'a>(&'a self, place: &'a Place) -> Box<dyn Iterator<Item = usize> + 'a> {
        match place {
            Place::Weights(index) => {
                let conv = &self.convs[*index];
                Box::new((0..conv.conv.out_channels).flat_map(|o| conv.weights(o)))
            }
            Place::Biases(index) => {
                let conv = &self.convs[*index];
                Box::new((0..conv.conv.out_channels).map(|o| conv.bias(o)))
            }
            Place::Vector(range) => Box::new(range.clone()),
        }
    }

    /// Copies a tensor out of `buffer`.
    pub fn read(&self, named: &Named, buffer: &[f32], out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.places(&named.place).map(|at| buffer[at]));
    }

    /// Copies a tensor into `buffer`.
    ///
    /// # Panics
    /// If `values` has another number of elements than the tensor.
    pub fn write(&self, named: &Named, values: &[f32], buffer: &mut [f32]) {
        assert_eq!(values.len(), named.shape.iter().product::<usize>());
        for (at, &value) in self.places(&named.place).zip(values) {
            buffer[at] = value;
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
                let (mut next, mut values) = (0, Vec::new());
                for named in &parameters.tensors {
                    parameters.read(named, &buffer, &mut values);
                    for v in &values {
                        assert_eq!(*v, value(next), "{name} {}", named.name);
                        next += 1;
                    }
                }
            }
        }
    }
}
