//! The network's weights, folded, re-laid and packed, in one piece of memory.
//!
//! The unit of work is a panel: some tens of output channels of one layer, read from the file,
//! re-laid, scaled and packed while they are in cache. So there is never more than a panel a
//! thread in memory beside the file's pages and the result, and threads share the work evenly.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::architecture::{ConvSpec, Layer};
use super::fold::{BatchNorm, Folded};
use super::layout::oihw_to_ohwi;
use super::weights::{Tensor, Tensors};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::kernels::KernelTable;
use crate::kernels::conv::MAX_SOURCES;
use crate::plan::{Algorithm, LayerWeights};
use crate::threads::Team;

/// Packed weights, and where each layer's start.
pub struct PackedWeights {
    /// All panels.
    pub data: Buffer,
    /// For each layer, where its panels start; an empty place for layers without weights.
    pub layers: Vec<LayerWeights>,
}

impl PackedWeights {
    /// Packs the weights of `layers` for these algorithms and the tier's panels, in parallel.
    ///
    /// # Errors
    /// A tensor is not as it should be, or memory is short.
    pub fn new(
        layers: &[Layer],
        algorithms: &[Algorithm],
        tensors: &Tensors,
        table: &KernelTable,
        team: &Team,
    ) -> Result<Self, Error> {
        let nr = table.nr;
        let sources = layers
            .iter()
            .zip(algorithms)
            .map(|(layer, &algorithm)| LayerSource::new(layer, algorithm, tensors))
            .collect::<Result<Vec<_>, _>>()?;
        let places = LayerWeights::lay_out(layers, algorithms, nr);
        let mut data = Buffer::new(LayerWeights::total(&places), "weights")?;

        let mut jobs = Vec::new();
        let mut rest = &mut data[..];
        for (source, place) in sources.iter().zip(&places) {
            let (mine, others) = rest.split_at_mut(place.len);
            jobs.extend(source.jobs(nr, mine));
            rest = others;
        }
        let jobs = Mutex::new(jobs);
        let failure = Mutex::new(None);
        team.run(|_| {
            let mut scratch = Scratch::default();
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some(job) = job else { return };
                if let Err(e) = job.run(table, &mut scratch) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    return;
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(Self {
                data,
                layers: places,
            }),
        }
    }
}

/// A layer's tensors in the file, with what is folded into them.
struct LayerSource<'a> {
    algorithm: Algorithm,
    convs: Vec<ConvSource<'a>>,
    /// The sum of all convolutions' biases.
    bias: Vec<f32>,
    /// Jobs that are not done yet.
    left: AtomicUsize,
}

struct ConvSource<'a> {
    spec: &'a ConvSpec,
    weights: Tensor<'a>,
    /// Batch norm's factor of each output channel.
    scale: Option<Vec<f64>>,
}

impl<'a> LayerSource<'a> {
    fn new(layer: &'a Layer, algorithm: Algorithm, tensors: &'a Tensors) -> Result<Self, Error> {
        let mut convs = Vec::new();
        let mut bias: Vec<f64> = Vec::new();
        for spec in layer.convs() {
            let weights = tensors.tensor(&format!("{}.weight", spec.conv))?;
            let (scale, its_bias) = match &spec.norm {
                Some(norm) => {
                    let Folded { scale, bias } = read_norm(norm, tensors)?.fold();
                    (Some(scale), bias)
                }
                None => {
                    let bias = tensors.read(&format!("{}.bias", spec.conv))?;
                    (None, bias.into_iter().map(f64::from).collect())
                }
            };
            convs.push(ConvSource {
                spec,
                weights,
                scale,
            });
            bias.resize(its_bias.len(), 0.0);
            bias.iter_mut().zip(its_bias).for_each(|(sum, b)| *sum += b);
        }
        Ok(Self {
            algorithm,
            convs,
            bias: bias.iter().map(|&b| b as f32).collect(),
            left: AtomicUsize::new(0),
        })
    }

    /// K of the products whose panels are packed.
    fn k(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => self.convs.iter().map(|conv| conv.spec.k()).sum(),
            Algorithm::Winograd(_) => self.convs.iter().map(|conv| conv.spec.in_channels).sum(),
        }
    }

    /// Products that are packed one behind the other.
    fn products(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => 1,
            Algorithm::Winograd(size) => size.points(),
        }
    }

    /// The work of packing this layer into `packed`, a job for each panel of output channels.
    fn jobs<'b>(&'b self, nr: usize, packed: &'b mut [f32]) -> Vec<Job<'b>> {
        let out_channels = self.bias.len();
        let mut jobs: Vec<Job> = (0..out_channels)
            .step_by(nr)
            .map(|first| Job {
                layer: self,
                channels: first..(first + nr).min(out_channels),
                panels: Vec::with_capacity(self.products()),
            })
            .collect();
        self.left.store(jobs.len(), Ordering::Relaxed);
        let panel_len = nr * (1 + self.k());
        let (panels, biases) = packed.split_at_mut(self.products() * jobs.len() * panel_len);
        for (i, panel) in panels.chunks_exact_mut(panel_len).enumerate() {
            let job = i % jobs.len();
            jobs[job].panels.push(panel);
        }
        // Where the output transform adds the biases, they follow on the panels.
        if !biases.is_empty() {
            biases[..out_channels].copy_from_slice(&self.bias);
        }
        jobs
    }
}

/// Some output channels of a layer, and their panel in each product.
struct Job<'a> {
    layer: &'a LayerSource<'a>,
    channels: Range<usize>,
    panels: Vec<&'a mut [f32]>,
}

/// A worker's memory from one job to the next: fresh pages cost more than what is done with them.
#[derive(Default)]
struct Scratch {
    oihw: Vec<f32>,
    /// For each convolution of the layer.
    ohwi: [Vec<f32>; MAX_SOURCES],
    points: Vec<f32>,
}

impl Job<'_> {
    fn run(mut self, table: &KernelTable, scratch: &mut Scratch) -> Result<(), Error> {
        let (layer, nr) = (self.layer, table.nr);
        let bias = &layer.bias[self.channels.clone()];
        for (conv, ohwi) in layer.convs.iter().zip(&mut scratch.ohwi) {
            conv.read(self.channels.clone(), &mut scratch.oihw, ohwi, table)?;
        }
        let rows = layer.convs.iter().zip(&scratch.ohwi);
        match layer.algorithm {
            // A shortcut's rows follow on the main convolution's.
            Algorithm::Direct => {
                let rows: Vec<_> = rows
                    .map(|(conv, ohwi)| (&ohwi[..], conv.spec.k()))
                    .collect();
                for panel in self.panels {
                    (table.pack)(&rows, bias, nr, panel);
                }
            }
            Algorithm::Winograd(size) => {
                let none = vec![0.0; bias.len()];
                for (conv, ohwi) in rows {
                    let ic = conv.spec.in_channels;
                    (table.winograd(size).weights)(ohwi, ic, &mut scratch.points);
                    let matrices = scratch.points.chunks_exact(bias.len() * ic);
                    for (matrix, panel) in matrices.zip(&mut self.panels) {
                        (table.pack)(&[(matrix, ic)], &none, nr, panel);
                    }
                }
            }
        }
        // Layer by layer and not job by job: other threads must hear of it each time.
        if layer.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            layer.convs.iter().for_each(|conv| conv.weights.release());
        }
        Ok(())
    }
}

impl ConvSource<'_> {
    /// The weights of some output channels: `[channels, kernel, kernel, in_channels]`, scaled.
    fn read(
        &self,
        channels: Range<usize>,
        oihw: &mut Vec<f32>,
        ohwi: &mut Vec<f32>,
        table: &KernelTable,
    ) -> Result<(), Error> {
        let ConvSpec {
            in_channels,
            kernel,
            ..
        } = *self.spec;
        let k = self.spec.k();
        self.weights
            .read(channels.start * k..channels.end * k, oihw)?;
        let shape = [channels.len(), in_channels, kernel, kernel];
        oihw_to_ohwi(oihw, shape, ohwi);
        if let Some(scale) = &self.scale {
            (table.scale_rows)(ohwi, &scale[channels]);
        }
        Ok(())
    }
}

fn read_norm(norm: &str, tensors: &Tensors) -> Result<BatchNorm, Error> {
    let read = |part: &str| tensors.read(&format!("{norm}.{part}"));
    let norm_vectors = BatchNorm {
        scale: read("weight")?,
        shift: read("bias")?,
        mean: read("running_mean")?,
        variance: read("running_var")?,
    };
    if let Some(c) = norm_vectors.variance.iter().position(|&v| v < 0.0) {
        return Err(tensors.error(format!(
            "tensor {norm}.running_var: expected variances from 0 up, found {} at element {c}",
            norm_vectors.variance[c]
        )));
    }
    Ok(norm_vectors)
}
