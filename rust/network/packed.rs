//! The network's weights, folded, re-laid and packed, in one piece of memory.

use std::sync::{Mutex, PoisonError};

use super::architecture::{ConvSpec, Layer};
use super::fold::{BatchNorm, fold};
use super::layout::oihw_to_ohwi;
use super::weights::Tensors;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::kernels::pack::{pack, packed_len};
use crate::kernels::view::LINE;
use crate::kernels::winograd::{F2, F4, TileSize, transform_weights};
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
    /// Packs the weights of `layers` for these algorithms and for panels of `nr` channels, layers
    /// in parallel.
    ///
    /// # Errors
    /// A tensor is not as it should be, or memory is short.
    pub fn new(
        layers: &[Layer],
        algorithms: &[Algorithm],
        tensors: &Tensors,
        nr: usize,
        team: &Team,
    ) -> Result<Self, Error> {
        let lens: Vec<usize> = layers
            .iter()
            .zip(algorithms)
            .map(|(layer, algorithm)| layer_len(layer, *algorithm, nr))
            .collect();
        let mut total = 0;
        let places = lens.iter().zip(algorithms).map(|(len, &algorithm)| {
            let start = total;
            total += len;
            LayerWeights { start, algorithm }
        });
        let places = places.collect();
        let mut data = Buffer::new(total, "weights")?;

        let mut jobs = Vec::with_capacity(layers.len());
        let mut rest = &mut data[..];
        for ((layer, algorithm), len) in layers.iter().zip(algorithms).zip(lens) {
            let (mine, others) = rest.split_at_mut(len);
            jobs.push((layer, *algorithm, mine));
            rest = others;
        }
        // From the end of the list: the last layers are the largest, and should not be the ones
        // that the others wait for.
        let jobs = Mutex::new(jobs);
        let failure = Mutex::new(None);
        team.run(|_| {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some((layer, algorithm, packed)) = job else {
                    return;
                };
                if let Err(e) = pack_layer(layer, algorithm, tensors, nr, packed) {
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

fn layer_len(layer: &Layer, algorithm: Algorithm, nr: usize) -> usize {
    let Some(conv) = layer.convs().next() else {
        return 0;
    };
    match algorithm {
        Algorithm::Direct => {
            packed_len(conv.out_channels, layer.convs().map(ConvSpec::k).sum(), nr)
        }
        // A matrix for each point, then the biases, which the output transform adds.
        Algorithm::Winograd(size) => {
            size.points() * packed_len(conv.out_channels, conv.in_channels, nr)
                + conv.out_channels.next_multiple_of(LINE)
        }
    }
}

/// Reads, folds and packs one layer.
fn pack_layer(
    layer: &Layer,
    algorithm: Algorithm,
    tensors: &Tensors,
    nr: usize,
    packed: &mut [f32],
) -> Result<(), Error> {
    let mut matrices = Vec::new();
    let mut bias: Vec<f64> = Vec::new();
    for conv in layer.convs() {
        let (weights, its_bias) = read_conv(conv, tensors)?;
        matrices.push((weights, conv));
        bias.resize(its_bias.len(), 0.0);
        bias.iter_mut().zip(its_bias).for_each(|(sum, b)| *sum += b);
    }
    let bias: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
    match (matrices.as_slice(), algorithm) {
        ([], _) => {}
        ([(weights, conv)], Algorithm::Winograd(size)) => {
            pack_winograd(size, weights, conv.in_channels, &bias, nr, packed);
        }
        // A shortcut's panels follow on the main convolution's.
        (matrices, _) => {
            let matrices: Vec<_> = matrices
                .iter()
                .map(|(w, conv)| (&w[..], conv.k()))
                .collect();
            pack(&matrices, &bias, nr, packed);
        }
    }
    Ok(())
}

fn pack_winograd(
    size: TileSize,
    weights: &[f32],
    in_channels: usize,
    bias: &[f32],
    nr: usize,
    packed: &mut [f32],
) {
    let u = match size {
        TileSize::Two => transform_weights::<F2, 2, 4>(weights, in_channels),
        TileSize::Four => transform_weights::<F4, 4, 6>(weights, in_channels),
    };
    let matrix_len = packed_len(bias.len(), in_channels, nr);
    let (matrices, biases) = packed.split_at_mut(size.points() * matrix_len);
    let none = vec![0.0; bias.len()];
    for (matrix, packed) in u
        .chunks_exact(bias.len() * in_channels)
        .zip(matrices.chunks_exact_mut(matrix_len))
    {
        pack(&[(matrix, in_channels)], &none, nr, packed);
    }
    biases[..bias.len()].copy_from_slice(bias);
}

/// A convolution's weights, OHWI, batch norm folded in, and its bias.
fn read_conv(conv: &ConvSpec, tensors: &Tensors) -> Result<(Vec<f32>, Vec<f64>), Error> {
    let weights = tensors.read(&format!("{}.weight", conv.conv))?;
    let shape = [
        conv.out_channels,
        conv.in_channels,
        conv.kernel,
        conv.kernel,
    ];
    let mut weights = oihw_to_ohwi(&weights, shape);
    let bias = match &conv.norm {
        Some(norm) => {
            let read = |part: &str| tensors.read(&format!("{norm}.{part}"));
            let norm_vectors = BatchNorm {
                scale: read("weight")?,
                shift: read("bias")?,
                mean: read("running_mean")?,
                variance: read("running_var")?,
            };
            if let Some(c) = norm_vectors.variance.iter().position(|&v| v < 0.0) {
                return Err(tensors.error(format!(
                    "tensor {norm}.running_var: expected variances from 0 up, found {} at \
                     element {c}",
                    norm_vectors.variance[c]
                )));
            }
            fold(&mut weights, &norm_vectors)
        }
        None => {
            let bias = tensors.read(&format!("{}.bias", conv.conv))?;
            bias.into_iter().map(f64::from).collect()
        }
    };
    Ok((weights, bias))
}
