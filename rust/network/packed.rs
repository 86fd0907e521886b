//! The network's weights, folded, re-laid and packed, in one piece of memory.

use std::sync::{Mutex, PoisonError};

use super::architecture::{ConvSpec, Layer};
use super::fold::{BatchNorm, fold};
use super::layout::oihw_to_ohwi;
use super::weights::Tensors;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::kernels::pack::{pack, packed_len};
use crate::threads::Team;

/// Packed weights, and where each layer's start.
pub struct PackedWeights {
    /// All panels.
    pub data: Buffer,
    /// For each layer, where its panels start; 0 for layers without weights.
    pub starts: Vec<usize>,
}

impl PackedWeights {
    /// Packs the weights of `layers` for panels of `nr` channels, layers in parallel.
    ///
    /// # Errors
    /// A tensor is not as it should be, or memory is short.
    pub fn new(layers: &[Layer], tensors: &Tensors, nr: usize, team: &Team) -> Result<Self, Error> {
        let lens: Vec<usize> = layers.iter().map(|layer| layer_len(layer, nr)).collect();
        let mut total = 0;
        let starts = lens.iter().map(|len| {
            total += len;
            total - len
        });
        let starts = starts.collect();
        let mut data = Buffer::new(total, "weights")?;

        let mut jobs = Vec::with_capacity(layers.len());
        let mut rest = &mut data[..];
        for (layer, len) in layers.iter().zip(lens) {
            let (mine, others) = rest.split_at_mut(len);
            jobs.push((layer, mine));
            rest = others;
        }
        // From the end of the list: the last layers are the largest, and should not be the ones
        // that the others wait for.
        let jobs = Mutex::new(jobs);
        let failure = Mutex::new(None);
        team.run(|_| {
            loop {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop();
                let Some((layer, packed)) = job else { return };
                if let Err(e) = pack_layer(layer, tensors, nr, packed) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    return;
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(Self { data, starts }),
        }
    }
}

fn layer_len(layer: &Layer, nr: usize) -> usize {
    let k: usize = layer.convs().map(ConvSpec::k).sum();
    layer
        .convs()
        .next()
        .map_or(0, |conv| packed_len(conv.out_channels, k, nr))
}

/// Reads, folds and packs one layer; a shortcut's panels follow on the main convolution's.
fn pack_layer(
    layer: &Layer,
    tensors: &Tensors,
    nr: usize,
    packed: &mut [f32],
) -> Result<(), Error> {
    let mut matrices = Vec::new();
    let mut bias: Vec<f64> = Vec::new();
    for conv in layer.convs() {
        let (weights, its_bias) = read_conv(conv, tensors)?;
        matrices.push((weights, conv.k()));
        bias.resize(its_bias.len(), 0.0);
        bias.iter_mut().zip(its_bias).for_each(|(sum, b)| *sum += b);
    }
    if matrices.is_empty() {
        return Ok(());
    }
    let bias: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
    let matrices: Vec<_> = matrices.iter().map(|(w, k)| (&w[..], *k)).collect();
    pack(&matrices, &bias, nr, packed);
    Ok(())
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
