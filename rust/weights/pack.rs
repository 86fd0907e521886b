//! The network's weights, folded, re-laid and packed, in one piece of memory.
//!
//! The unit of work is a panel: some tens of output channels of one layer, read from the file,
//! re-laid, scaled and packed while they are in cache. So besides the result, only
//! one panel for each thread is in memory, and threads share the work evenly.

use std::ops::Range;

use super::jobs::for_each_job;
use super::pack_int8::{IntJob, IntLayer, IntScratch};
use super::quantized::QuantizedLayers;
use super::source::LayerSource;
use super::tensors::Tensors;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::graph::layer::Layer;
use crate::kernels::KernelTable;
use crate::kernels::conv::MAX_SOURCES;
use crate::kernels::conv::f32::panel_len;
use crate::kernels::input::PixelScale;
use crate::memory::{Buffer, room};
use crate::plan::{Algorithm, Arithmetic, LayerWeights, panel_k};
use crate::threads::Team;

/// Bytes of the values for one output channel while weights are packed, and of its share of the jobs: ten
/// values of up to eight bytes, and up to 36 panels of at least eight channels.
const CHANNEL_BYTES: usize = 256;

/// Packed weights, and the place of each layer's.
pub struct PackedWeights {
    /// All panels.
    pub data: Buffer,
    /// For each layer the place of its panels, empty for layers without weights.
    pub layers: Vec<LayerWeights>,
}

impl PackedWeights {
    /// Packs the f32 weights of `layers` for this arithmetic, f32 or bf16, and the tier's panels, in parallel.
    ///
    /// # Errors
    /// A tensor has wrong values, or there is not enough memory.
    pub fn new(
        layers: &[Layer],
        arithmetic: &[Arithmetic],
        tensors: &Tensors,
        table: &KernelTable,
        team: &Team,
    ) -> Result<Self, Error> {
        Self::of(layers, arithmetic, None, tensors, table, team)
    }

    /// Packs the weights of an int8 network, whose layers may be of bf16.
    ///
    /// # Errors
    /// As for [`PackedWeights::new`].
    pub fn int8(
        quantized: &QuantizedLayers,
        pixels: &PixelScale,
        tensors: &Tensors,
        table: &KernelTable,
        team: &Team,
    ) -> Result<Self, Error> {
        let QuantizedLayers { layers, arithmetic } = quantized;
        Self::of(layers, arithmetic, Some(pixels), tensors, table, team)
    }

    fn of(
        layers: &[Layer],
        arithmetic: &[Arithmetic],
        pixels: Option<&PixelScale>,
        tensors: &Tensors,
        table: &KernelTable,
        team: &Team,
    ) -> Result<Self, Error> {
        let kernels = table.shapes();
        // Vectors with an element for each channel, and the list of jobs.
        let channels = |layer: &Layer| layer.convs().map(|conv| conv.out_channels).sum::<usize>();
        let channels: usize = layers.iter().map(channels).sum();
        room::check(CHANNEL_BYTES * channels + room::SMALL, "weights")?;
        let places = LayerWeights::lay_out(layers, arithmetic, &kernels);
        let sources = layers
            .iter()
            .zip(arithmetic)
            .map(|(layer, arithmetic)| {
                let tile = kernels.tile(arithmetic.dtype);
                Ok(match (tile.dtype, pixels) {
                    (Dtype::F32 | Dtype::Bf16, _) | (_, None) => {
                        let algorithm = arithmetic.algorithm;
                        AnyLayer::Real(LayerSource::new(layer, algorithm, tensors, tile)?)
                    }
                    (Dtype::I16 | Dtype::U8, Some(pixels)) => AnyLayer::Whole(IntLayer::new(
                        layer, arithmetic, pixels, tensors, &kernels,
                    )?),
                })
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let mut data = Buffer::new(LayerWeights::total_bytes(&places), "weights")?;

        let mut jobs = Vec::new();
        let (mut rest, mut at) = (&mut data[..], 0);
        for (source, place) in sources.iter().zip(&places) {
            // Each layer starts at a cache line: there may be a gap before it.
            let (before, others) = rest.split_at_mut(place.offset_bytes - at + place.len_bytes);
            let mine = &mut before[place.offset_bytes - at..];
            (rest, at) = (others, place.offset_bytes + place.len_bytes);
            match source {
                _ if mine.is_empty() => {}
                AnyLayer::Whole(layer) => jobs.extend(layer.jobs(mine).map(AnyJob::Whole)),
                AnyLayer::Real(layer) => {
                    let mine = bytemuck::cast_slice_mut(mine);
                    match &layer.norm {
                        Some(folded) => folded.write(mine),
                        None => jobs.extend(jobs_of(layer, mine).into_iter().map(AnyJob::Real)),
                    }
                }
            }
        }
        let needs = Needs::of(sources.iter().filter_map(|source| match source {
            AnyLayer::Real(layer) => Some(layer),
            AnyLayer::Whole(_) => None,
        }));
        let scratch = || Ok((Scratch::new(&needs)?, IntScratch::default()));
        for_each_job(team, jobs, scratch, |job, (real, whole)| match job {
            AnyJob::Real(job) => job.run(table, real),
            AnyJob::Whole(job) => job.run(table, whole),
        })?;
        Ok(Self {
            data,
            layers: places,
        })
    }
}

/// A layer's tensors.
enum AnyLayer<'a> {
    Real(LayerSource<'a>),
    Whole(IntLayer<'a>),
}

/// The packing of a panel.
enum AnyJob<'a> {
    Real(Job<'a>),
    Whole(IntJob<'a>),
}

/// The work of packing `layer` into `packed`, a job for each panel of output channels.
fn jobs_of<'a>(layer: &'a LayerSource, packed: &'a mut [f32]) -> Vec<Job<'a>> {
    let nr = layer.tile.nr;
    let out_channels = layer.bias.len();
    let mut jobs: Vec<Job> = (0..out_channels)
        .step_by(nr)
        .map(|first| Job {
            layer,
            channels: first..(first + nr).min(out_channels),
            panels: Vec::with_capacity(layer.products()),
        })
        .collect();
    let panel_len = layer.tile.panel_len(layer.k());
    let (panels, biases) = packed.split_at_mut(layer.products() * jobs.len() * panel_len);
    for (i, panel) in panels.chunks_exact_mut(panel_len).enumerate() {
        let job = i % jobs.len();
        jobs[job].panels.push(panel);
    }
    // If the output transform adds the biases, they follow the panels.
    if !biases.is_empty() {
        biases[..out_channels].copy_from_slice(&layer.bias);
    }
    jobs
}

/// Some output channels of a layer, and their panel in each product.
struct Job<'a> {
    layer: &'a LayerSource<'a>,
    channels: Range<usize>,
    panels: Vec<&'a mut [f32]>,
}

/// The longest of a worker's vectors, over all jobs.
#[derive(Default)]
struct Needs {
    windows: usize,
    points: usize,
    panel: usize,
}

impl Needs {
    fn of<'a>(sources: impl Iterator<Item = &'a LayerSource<'a>>) -> Self {
        let mut needs = Self::default();
        for source in sources {
            let (tile, nr) = (source.tile, source.tile.nr);
            if tile.dtype == Dtype::Bf16 {
                needs.panel = needs.panel.max(panel_len(source.k(), nr));
            }
            for conv in &source.convs {
                let rows = nr.min(conv.spec.out_channels);
                let longest = conv.spec.window_len().max(panel_k(conv.spec, tile));
                needs.windows = needs.windows.max(rows * longest);
                if let Algorithm::Winograd(size) = source.algorithm {
                    let points = size.points() * rows * conv.spec.in_channels;
                    needs.points = needs.points.max(points);
                }
            }
        }
        needs
    }
}

/// A worker's memory, reused from one job to the next: new pages would cost more than the work.
struct Scratch {
    oihw: Vec<f32>,
    /// For each convolution of the layer.
    ohwi: [Vec<f32>; MAX_SOURCES],
    points: Vec<f32>,
    /// A panel before it is rounded to bf16.
    panel: Vec<f32>,
}

impl Scratch {
    /// Takes as much memory as any job needs.
    fn new(needs: &Needs) -> Result<Self, Error> {
        let vector = |len| {
            let mut values = Vec::new();
            room::reserve(&mut values, len, "weights while they are packed").map(|()| values)
        };
        let mut ohwi = [const { Vec::new() }; MAX_SOURCES];
        for values in &mut ohwi {
            *values = vector(needs.windows)?;
        }
        Ok(Self {
            oihw: vector(needs.windows)?,
            ohwi,
            points: vector(needs.points)?,
            panel: vector(needs.panel)?,
        })
    }

    /// The elements that there is room for. A vector that grew would have asked for memory without a check.
    fn room(&self) -> usize {
        let others = [&self.oihw, &self.points, &self.panel];
        let all = self.ohwi.iter().chain(others);
        all.map(Vec::capacity).sum()
    }
}

impl Job<'_> {
    fn run(mut self, table: &KernelTable, scratch: &mut Scratch) -> Result<(), Error> {
        let (layer, kernels) = (self.layer, &table.f32);
        let (tile, nr) = (layer.tile, layer.tile.nr);
        let room = scratch.room();
        let bias = &layer.bias[self.channels.clone()];
        for (conv, ohwi) in layer.convs.iter().zip(&mut scratch.ohwi) {
            conv.read(
                self.channels.clone(),
                &mut scratch.oihw,
                ohwi,
                &kernels.conv,
                tile,
            )?;
        }
        let rows = layer.convs.iter().zip(&scratch.ohwi);
        match layer.algorithm {
            // A shortcut's rows follow those of the main convolution.
            Algorithm::Direct => {
                let rows: Vec<_> = rows
                    .map(|(conv, ohwi)| (&ohwi[..], panel_k(conv.spec, tile)))
                    .collect();
                for panel in self.panels {
                    if tile.dtype == Dtype::F32 {
                        kernels.conv.pack(&rows, bias, nr, panel);
                        continue;
                    }
                    scratch.panel.clear();
                    scratch.panel.resize(panel_len(layer.k(), nr), 0.0);
                    kernels.conv.pack(&rows, bias, nr, &mut scratch.panel);
                    table.bf16.round_panel(&scratch.panel, panel);
                }
            }
            Algorithm::Winograd(size) => {
                let zeros = vec![0.0; bias.len()];
                for (conv, ohwi) in rows {
                    let ic = conv.spec.in_channels;
                    let transforms = kernels.winograd.of_size(size);
                    transforms.transform_weights(ohwi, ic, &mut scratch.points);
                    let matrices = scratch.points.chunks_exact(bias.len() * ic);
                    for (matrix, panel) in matrices.zip(&mut self.panels) {
                        kernels.conv.pack(&[(matrix, ic)], &zeros, nr, panel);
                    }
                }
            }
        }
        debug_assert_eq!(scratch.room(), room, "the job took more than its needs");
        Ok(())
    }
}
