//! The tensors of an int8 network: which there are, and the units that they state. docs/int8.md defines both.

use super::tensors::Tensors;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::graph::fuse::{Fusion, fuse};
use crate::graph::layer::{Layer, Op, TensorId};
use crate::graph::operations::Operation;
use crate::kernels::input::quantized_channels;
use crate::plan::{Algorithm, Arithmetic, HEAD_MOST, Scales};
use crate::simd::MOST;

/// True if the tensors are those of an int8 network.
pub fn is_quantized(tensors: &Tensors) -> bool {
    [
        "conv1.weight_scale",
        "conv1.0.weight_scale",
        "fc.weight_scale",
    ]
    .iter()
    .any(|name| tensors.contains(name))
}

/// An int8 network's layers, with the arithmetic of each.
pub struct QuantizedLayers {
    /// The layers. The first convolution reads the channels of the quantised image.
    pub layers: Vec<Layer>,
    /// The arithmetic, layer by layer.
    pub arithmetic: Vec<Arithmetic>,
}

/// A tensor between layers.
#[derive(Clone, Copy)]
struct Activations {
    dtype: Dtype,
    scale: f32,
    most: f32,
}

impl QuantizedLayers {
    /// The layers of a network for kernels whose activations are of `dtype`.
    ///
    /// # Errors
    /// A tensor is missing, surplus, of another shape or type, or a scale is no positive number; or the network has an
    /// operation that int8 has not.
    pub fn new(
        operations: &[Operation],
        in_channels: usize,
        tensors: &Tensors,
        dtype: Dtype,
    ) -> Result<Self, Error> {
        let mut layers = fuse(operations, Fusion::WithShortcuts);
        check_operations(&layers)?;
        check_tensors(operations, &layers, tensors)?;
        let mut of_tensor: Vec<Option<Activations>> = vec![None; layers.len() + 1];
        of_tensor[0] = Some(Activations {
            dtype,
            scale: 1.0,
            most: MOST,
        });
        let has_fc = layers.last().is_some_and(Layer::is_fc);
        let head = layers.len() - 1 - usize::from(has_fc);
        let mut arithmetic = Vec::with_capacity(layers.len());
        for (i, layer) in layers.iter_mut().enumerate() {
            let of = |id: TensorId| of_tensor[id].expect("a tensor is written before it is read");
            let inputs = layer.inputs();
            let first = of(inputs[0].0);
            let mut scales = Scales {
                input: first.scale,
                ..Scales::F32
            };
            if let Op::Conv {
                sources, residual, ..
            } = &mut layer.op
            {
                if let [_, (shortcut, _)] = sources[..] {
                    scales.shortcut = of(shortcut).scale;
                }
                if let Some(residual) = *residual {
                    scales.residual = of(residual).scale;
                }
                for (id, conv) in sources {
                    if *id == 0 {
                        conv.in_channels = quantized_channels(in_channels);
                    }
                }
            }
            let out = match &layer.op {
                _ if layer.is_fc() => Activations {
                    dtype: Dtype::F32,
                    scale: 1.0,
                    most: f32::MAX,
                },
                Op::Conv { .. } => Activations {
                    dtype,
                    scale: output_scale(layer, tensors)?,
                    most: MOST,
                },
                Op::AvgPool(..) if i == head => Activations {
                    dtype: Dtype::I16,
                    scale: output_scale(layer, tensors)?,
                    most: HEAD_MOST,
                },
                _ => first,
            };
            scales.output = out.scale;
            of_tensor[layer.output] = Some(out);
            arithmetic.push(Arithmetic {
                dtype: first.dtype,
                out: out.dtype,
                algorithm: Algorithm::Direct,
                scales,
                most_in: first.most,
                most: out.most,
            });
        }
        Ok(Self { layers, arithmetic })
    }
}

/// Layers whose output has a scale of its own.
fn has_output_scale(layer: &Layer, is_head: bool) -> bool {
    match layer.op {
        Op::Conv { .. } => !layer.is_fc(),
        Op::AvgPool(..) => is_head,
        _ => false,
    }
}

fn check_operations(layers: &[Layer]) -> Result<(), Error> {
    let unfit = layers.iter().find(|layer| match layer.op {
        Op::Conv { relu, .. } => !relu && !layer.is_fc(),
        Op::Elementwise { .. } => true,
        Op::MaxPool(..) | Op::AvgPool(..) | Op::Pad(..) => false,
    });
    match unfit {
        Some(layer) => Err(Error::Argument(format!(
            "int8: expected a ReLU after every convolution and addition, layer {} has none; such a network \
             runs in f32",
            layer.name
        ))),
        None => Ok(()),
    }
}

fn check_tensors(
    operations: &[Operation],
    layers: &[Layer],
    tensors: &Tensors,
) -> Result<(), Error> {
    let weights: Vec<(String, Vec<usize>)> = operations
        .iter()
        .filter(|operation| operation.convolution().is_some())
        .flat_map(Operation::named_parameters)
        .filter(|(name, _)| name.ends_with(".weight"))
        .collect();
    let mut real = Vec::new();
    for (name, shape) in &weights {
        real.push((format!("{name}_scale"), vec![shape[0]]));
    }
    let has_fc = layers.last().is_some_and(Layer::is_fc);
    let head = layers.len() - 1 - usize::from(has_fc);
    for (i, layer) in layers.iter().enumerate() {
        if let Some(conv) = layer.convs().next() {
            real.push((format!("{}.bias", conv.conv), vec![conv.out_channels]));
        }
        if has_output_scale(layer, i == head) {
            real.push((format!("{}.output_scale", layer.name), vec![1]));
        }
    }
    tensors.check_kinds(&real, &weights, (!has_fc).then_some("fc."))
}

fn output_scale(layer: &Layer, tensors: &Tensors) -> Result<f32, Error> {
    let name = format!("{}.output_scale", layer.name);
    Ok(scales(&name, tensors)?[0])
}

/// The scales in tensor `name`.
///
/// # Errors
/// One is not a positive number.
pub(super) fn scales(name: &str, tensors: &Tensors) -> Result<Vec<f32>, Error> {
    let scales = tensors.read(name)?;
    match scales.iter().position(|&scale| scale <= 0.0) {
        Some(i) => Err(tensors.error(format!(
            "tensor {name}: expected scales above 0, found {} at element {i}",
            scales[i]
        ))),
        None => Ok(scales),
    }
}
