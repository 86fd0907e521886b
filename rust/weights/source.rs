//! A layer's tensors: read, re-laid, with batch norm folded in.

use std::ops::Range;

use super::fold::{BatchNorm, Folded};
use super::relay::oihw_to_ohwi;
use super::tensor::{Tensor, all_finite};
use super::tensors::Tensors;
use crate::error::Error;
use crate::graph::layer::{ConvSpec, Layer, Norm, Op};
use crate::kernels::conv::TileShape;
use crate::kernels::conv::f32::ConvKernels;
use crate::plan::{Algorithm, panel_channels, panel_k};

/// A layer's tensors in the file, with the values that are folded into them.
pub(super) struct LayerSource<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) convs: Vec<ConvSource<'a>>,
    /// The sum of all convolutions' biases.
    pub(super) bias: Vec<f32>,
    /// A batch norm without a convolution before it.
    pub(super) norm: Option<Folded>,
    /// The tile that the panels are for.
    pub(super) tile: TileShape,
}

/// A convolution's tensors in the file.
pub(super) struct ConvSource<'a> {
    pub(super) spec: &'a ConvSpec,
    pub(super) weights: Tensor<'a>,
    /// Batch norm's factor for each output channel.
    scale: Option<Vec<f64>>,
}

impl<'a> LayerSource<'a> {
    pub(super) fn new(
        layer: &'a Layer,
        algorithm: Algorithm,
        tensors: &'a Tensors,
        tile: TileShape,
    ) -> Result<Self, Error> {
        let norm = match &layer.op {
            Op::Elementwise {
                norm: Some((norm, _)),
                ..
            } => Some(read_norm(norm, tensors)?.fold()),
            _ => None,
        };
        let mut convs = Vec::new();
        let mut bias: Vec<f64> = Vec::new();
        for spec in layer.convs() {
            let weights = tensors.tensor(&format!("{}.weight", spec.conv))?;
            let mut its_bias = vec![0.0; spec.out_channels];
            if spec.bias {
                let bias = tensors.read(&format!("{}.bias", spec.conv))?;
                its_bias = bias.into_iter().map(f64::from).collect();
            }
            let mut scale = None;
            if let Some(norm) = &spec.norm {
                let folded = read_norm(norm, tensors)?.fold();
                for (b, (scale, shift)) in its_bias
                    .iter_mut()
                    .zip(folded.scale.iter().zip(&folded.bias))
                {
                    *b = *b * scale + shift;
                }
                scale = Some(folded.scale);
            }
            convs.push(ConvSource {
                spec,
                weights,
                scale,
            });
            bias.resize(its_bias.len(), 0.0);
            bias.iter_mut().zip(its_bias).for_each(|(sum, b)| *sum += b);
        }
        let bias: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
        let is_finite = norm.as_ref().is_none_or(Folded::is_finite) && all_finite(&bias);
        if !is_finite {
            let message = "its batch norm's scale and shift are too large for f32";
            return Err(tensors.error(format!("layer {}: {message}", layer.name)));
        }
        Ok(Self {
            algorithm,
            convs,
            bias,
            norm,
            tile,
        })
    }

    /// K of the products whose panels are packed.
    pub(super) fn k(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => self
                .convs
                .iter()
                .map(|conv| panel_k(conv.spec, self.tile))
                .sum(),
            Algorithm::Winograd(_) => self.convs.iter().map(|conv| conv.spec.in_channels).sum(),
        }
    }

    /// The number of products that are packed one after the other.
    pub(super) fn products(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => 1,
            Algorithm::Winograd(size) => size.points(),
        }
    }
}

impl ConvSource<'_> {
    /// The weights of a panel's output channels, scaled: `[channels, kernel, kernel, in_channels]`,
    /// the input channels being those that the panel reads.
    pub(super) fn read(
        &self,
        channels: Range<usize>,
        oihw: &mut Vec<f32>,
        ohwi: &mut Vec<f32>,
        kernels: &ConvKernels,
        tile: TileShape,
    ) -> Result<(), Error> {
        let ConvSpec {
            in_channels,
            kernel,
            groups,
            ..
        } = *self.spec;
        let window = self.spec.window_len();
        self.weights
            .read(channels.start * window..channels.end * window, oihw)?;
        let shape = [channels.len(), in_channels / groups, kernel, kernel];
        oihw_to_ohwi(oihw, shape, ohwi);
        if let Some(scale) = &self.scale {
            kernels.scale_rows(ohwi, &scale[channels.clone()]);
        }
        if !all_finite(ohwi) {
            return Err(self
                .weights
                .error("too large for f32 with its batch norm folded in"));
        }
        if panel_channels(self.spec, tile).len > in_channels / groups {
            self.spread(channels, oihw, ohwi, tile);
        }
        Ok(())
    }

    /// From a group's input channels to those that the panel reads, with zeros between them.
    fn spread(
        &self,
        channels: Range<usize>,
        scratch: &mut Vec<f32>,
        ohwi: &mut Vec<f32>,
        tile: TileShape,
    ) {
        let read = panel_channels(self.spec, tile);
        let start = read.start(channels.start / tile.nr);
        let taps = self.spec.kernel * self.spec.kernel;
        scratch.clear();
        scratch.resize(channels.len() * taps * read.len, 0.0);
        let group_len = self.spec.in_channels / self.spec.groups;
        let windows = ohwi.chunks_exact(taps * group_len);
        let spread = scratch.chunks_exact_mut(taps * read.len);
        for (o, (window, wide)) in channels.zip(windows.zip(spread)) {
            let group = read.group(o);
            let place = group.start - start..group.end - start;
            let pixels = window.chunks_exact(group_len);
            for (pixel, wide) in pixels.zip(wide.chunks_exact_mut(read.len)) {
                wide[place.clone()].copy_from_slice(pixel);
            }
        }
        std::mem::swap(scratch, ohwi);
    }
}

fn read_norm(norm: &Norm, tensors: &Tensors) -> Result<BatchNorm, Error> {
    let Norm { name, epsilon } = norm;
    let read = |part: &str| tensors.read(&format!("{name}.{part}"));
    let norm_vectors = BatchNorm {
        scale: read("weight")?,
        shift: read("bias")?,
        mean: read("running_mean")?,
        variance: read("running_var")?,
        epsilon: *epsilon,
    };
    if let Some(c) = norm_vectors.variance.iter().position(|&v| v < 0.0) {
        return Err(tensors.error(format!(
            "tensor {name}.running_var: expected variances from 0 up, found {} at element {c}",
            norm_vectors.variance[c]
        )));
    }
    Ok(norm_vectors)
}
