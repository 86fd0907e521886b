//! The network's weights, folded, re-laid and packed, in one piece of memory.
//!
//! The unit of work is a panel: some tens of output channels of one layer, read from the file,
//! re-laid, scaled and packed while they are in cache. So besides the file's pages and the result, only
//! one panel for each thread is in memory, and threads share the work evenly.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use super::source::LayerSource;
use super::tensors::Tensors;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::graph::layer::Layer;
use crate::kernels::KernelTable;
use crate::kernels::conv::MAX_SOURCES;
use crate::kernels::conv::f32::panel_len;
use crate::memory::Buffer;
use crate::plan::{Algorithm, LayerWeights, panel_k};
use crate::threads::Team;

/// Packed weights, and the place of each layer's.
pub struct PackedWeights {
    /// All panels.
    pub data: Buffer,
    /// For each layer the place of its panels, empty for layers without weights.
    pub layers: Vec<LayerWeights>,
}

impl PackedWeights {
    /// Packs the weights of `layers` for these algorithms and the tier's panels, in parallel.
    ///
    /// # Errors
    /// A tensor has wrong values, or there is not enough memory.
    pub fn new(
        layers: &[Layer],
        algorithms: &[Algorithm],
        tensors: &Tensors,
        table: &KernelTable,
        team: &Team,
    ) -> Result<Self, Error> {
        let kernels = table.shapes();
        let places = LayerWeights::lay_out(layers, algorithms, &kernels);
        let sources = layers
            .iter()
            .zip(&places)
            .map(|(layer, place)| {
                let nr = kernels.tile(place.dtype).nr;
                LayerSource::new(layer, place.algorithm, tensors, nr)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut data = Buffer::new(LayerWeights::total_bytes(&places), "weights")?;

        let mut jobs = Vec::new();
        let (mut rest, mut at) = (&mut data[..], 0);
        for (source, place) in sources.iter().zip(&places) {
            // Each layer starts at a cache line: there may be a gap before it.
            let (before, others) = rest.split_at_mut(place.offset_bytes - at + place.len_bytes);
            let mine = &mut before[place.offset_bytes - at..];
            (rest, at) = (others, place.offset_bytes + place.len_bytes);
            match place.dtype {
                Dtype::F32 => {
                    let mine = bytemuck::cast_slice_mut(mine);
                    match &source.norm {
                        Some(folded) => folded.write(mine),
                        None => jobs.extend(jobs_of(source, kernels.f32.nr, mine)),
                    }
                }
            }
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

/// The work of packing `layer` for f32 into `packed`, a job for each panel of output channels.
fn jobs_of<'a>(layer: &'a LayerSource, nr: usize, packed: &'a mut [f32]) -> Vec<Job<'a>> {
    let out_channels = layer.bias.len();
    let mut jobs: Vec<Job> = (0..out_channels)
        .step_by(nr)
        .map(|first| Job {
            layer,
            channels: first..(first + nr).min(out_channels),
            panels: Vec::with_capacity(layer.products()),
        })
        .collect();
    layer.left.store(jobs.len(), Ordering::Relaxed);
    let panel_len = panel_len(layer.k(), nr);
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

/// A worker's memory, reused from one job to the next: new pages would cost more than the work.
#[derive(Default)]
struct Scratch {
    oihw: Vec<f32>,
    /// For each convolution of the layer.
    ohwi: [Vec<f32>; MAX_SOURCES],
    points: Vec<f32>,
}

impl Job<'_> {
    fn run(mut self, table: &KernelTable, scratch: &mut Scratch) -> Result<(), Error> {
        let (layer, kernels) = (self.layer, &table.f32);
        let nr = kernels.conv.tile().nr;
        let bias = &layer.bias[self.channels.clone()];
        for (conv, ohwi) in layer.convs.iter().zip(&mut scratch.ohwi) {
            conv.read(
                self.channels.clone(),
                &mut scratch.oihw,
                ohwi,
                &kernels.conv,
            )?;
        }
        let rows = layer.convs.iter().zip(&scratch.ohwi);
        match layer.algorithm {
            // A shortcut's rows follow those of the main convolution.
            Algorithm::Direct => {
                let rows: Vec<_> = rows
                    .map(|(conv, ohwi)| (&ohwi[..], panel_k(conv.spec, nr)))
                    .collect();
                for panel in self.panels {
                    kernels.conv.pack(&rows, bias, nr, panel);
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
        // Once for each layer, not for each job: a release interrupts the other threads.
        if layer.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            layer.convs.iter().for_each(|conv| conv.weights.release());
        }
        Ok(())
    }
}
