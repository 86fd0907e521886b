//! The network's weights, folded, re-laid and packed, in one piece of memory.
//!
//! The unit of work is a panel: some tens of output channels of one layer, read from the file,
//! re-laid, scaled and packed while they are in cache. So there is never more than a panel a
//! thread in memory beside the file's pages and the result, and threads share the work evenly.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::fold::{BatchNorm, Folded};
use super::layer::{ConvSpec, Layer, Norm, Op};
use super::layout::oihw_to_ohwi;
use super::weights::{Tensor, Tensors, all_finite};
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
            .map(|(layer, &algorithm)| LayerSource::new(layer, algorithm, tensors, nr))
            .collect::<Result<Vec<_>, _>>()?;
        let places = LayerWeights::lay_out(layers, algorithms, nr);
        let mut data = Buffer::new(LayerWeights::total(&places), "weights")?;

        let mut jobs = Vec::new();
        let mut rest = &mut data[..];
        for (source, place) in sources.iter().zip(&places) {
            let (mine, others) = rest.split_at_mut(place.len);
            match &source.norm {
                Some(folded) => folded.write(mine),
                None => jobs.extend(source.jobs(nr, mine)),
            }
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
    /// A batch norm that is no convolution's.
    norm: Option<Folded>,
    /// Channels of a panel.
    nr: usize,
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
    fn new(
        layer: &'a Layer,
        algorithm: Algorithm,
        tensors: &'a Tensors,
        nr: usize,
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
            nr,
            left: AtomicUsize::new(0),
        })
    }

    /// K of the products whose panels are packed.
    fn k(&self) -> usize {
        match self.algorithm {
            Algorithm::Direct => self.convs.iter().map(|conv| conv.spec.k(self.nr)).sum(),
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
                    .map(|(conv, ohwi)| (&ohwi[..], conv.spec.k(nr)))
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
    /// The weights of a panel's output channels, scaled: `[channels, kernel, kernel, in_channels]`,
    /// the input channels being those that the panel reads.
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
            groups,
            ..
        } = *self.spec;
        let window = self.spec.window_len();
        self.weights
            .read(channels.start * window..channels.end * window, oihw)?;
        let shape = [channels.len(), in_channels / groups, kernel, kernel];
        oihw_to_ohwi(oihw, shape, ohwi);
        if let Some(scale) = &self.scale {
            (table.scale_rows)(ohwi, &scale[channels.clone()]);
        }
        if !all_finite(ohwi) {
            return Err(self
                .weights
                .error("too large for f32 with its batch norm folded in"));
        }
        if groups > 1 {
            self.spread_groups(channels, oihw, ohwi, table.nr);
        }
        Ok(())
    }

    /// From a group's input channels to those that the panel reads, with zeros between them.
    fn spread_groups(
        &self,
        channels: Range<usize>,
        scratch: &mut Vec<f32>,
        ohwi: &mut Vec<f32>,
        nr: usize,
    ) {
        let read = self.spec.channels(nr);
        let start = read.start(channels.start / nr);
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

impl Folded {
    /// Whether f32 can hold all of it.
    fn is_finite(&self) -> bool {
        let mut values = self.scale.iter().chain(&self.bias);
        values.all(|&value| (value as f32).is_finite())
    }

    /// Writes the scales, and behind them the shifts.
    fn write(&self, out: &mut [f32]) {
        for (out, &value) in out.iter_mut().zip(self.scale.iter().chain(&self.bias)) {
            *out = value as f32;
        }
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
