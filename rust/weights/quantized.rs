//! The tensors of an int8 network: which there are, and the units that they state. docs/int8.md defines both.

use std::collections::{HashMap, HashSet};

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
    tensors.names().any(|name| name.ends_with(".weight_scale"))
}

/// An int8 network's layers, with the arithmetic of each.
pub struct QuantizedLayers {
    /// The layers. A first convolution in int8 reads the channels of the quantised image.
    pub layers: Vec<Layer>,
    /// The arithmetic, layer by layer.
    pub arithmetic: Vec<Arithmetic>,
}

/// A tensor between layers.
#[derive(Clone, Copy)]
struct Activations {
    dtype: Dtype,
    /// The real value of 1.
    scale: f32,
    most: f32,
    /// The scale that it has, or would have, in 8 bits.
    own_scale: f32,
}

impl Activations {
    fn bf16(own_scale: f32) -> Self {
        Self {
            dtype: Dtype::Bf16,
            scale: 1.0,
            most: f32::MAX,
            own_scale,
        }
    }

    fn whole(dtype: Dtype, scale: f32) -> Self {
        Self {
            dtype,
            scale,
            most: MOST,
            own_scale: scale,
        }
    }
}

impl QuantizedLayers {
    /// The layers of a network for kernels whose whole activations are of `dtype`. Convolutions without scales, and the
    /// pools behind them, compute in bf16; where a layer reads the results of the other kind, a layer before it changes
    /// their type.
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
        let layers = fuse(operations, Fusion::WithShortcuts);
        check_operations(&layers)?;
        check_tensors(operations, &layers, tensors)?;
        let reads_whole = layers.first().is_some_and(|layer| is_whole(layer, tensors));
        let mut building = Building {
            tensors,
            dtype,
            in_channels,
            done: Self {
                layers: Vec::new(),
                arithmetic: Vec::new(),
            },
            of_tensor: vec![match reads_whole {
                true => Activations::whole(dtype, 1.0),
                false => Activations::bf16(1.0),
            }],
            places: vec![0; layers.len() + 1],
            converted: HashMap::new(),
        };
        let head = head_of(&layers);
        for (i, layer) in layers.iter().enumerate() {
            building.push(layer, i == head)?;
        }
        Ok(building.done)
    }
}

/// The layers so far.
struct Building<'a> {
    tensors: &'a Tensors<'a>,
    dtype: Dtype,
    in_channels: usize,
    done: QuantizedLayers,
    /// The tensors by their new ids.
    of_tensor: Vec<Activations>,
    /// From an id among the fused layers to the tensor's id here.
    places: Vec<TensorId>,
    /// The tensors in the other type, if a layer has asked for it.
    converted: HashMap<TensorId, TensorId>,
}

impl Building<'_> {
    /// Appends a layer, and before it the changes of type that it needs.
    fn push(&mut self, layer: &Layer, is_head: bool) -> Result<(), Error> {
        let mut layer = layer.clone();
        let whole = match layer.convs().next() {
            Some(_) => is_whole(&layer, self.tensors),
            // fc reads 12 bits, or bf16.
            None if is_head => has_whole_head(self.tensors),
            None => {
                let input = self.places[layer.inputs()[0].0];
                self.of_tensor[input].dtype != Dtype::Bf16
            }
        };
        let old_output = layer.output;
        self.rename(&mut layer, whole);
        let of = |id: TensorId| self.of_tensor[id];
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
            for (s, (id, conv)) in sources.iter_mut().enumerate() {
                if whole && *id == 0 {
                    conv.in_channels = quantized_channels(self.in_channels);
                }
                if !whole {
                    // Batch norm is folded into the weights in the file.
                    (conv.norm, conv.bias) = (None, s == 0);
                }
            }
        }
        let own_scale = match &layer.op {
            _ if layer.is_fc() => 1.0,
            Op::Conv { .. } => output_scale(&layer, self.tensors)?,
            _ => first.own_scale,
        };
        let out = match &layer.op {
            _ if layer.is_fc() => Activations {
                dtype: Dtype::F32,
                ..Activations::bf16(1.0)
            },
            _ if !whole => Activations::bf16(own_scale),
            Op::AvgPool(..) if is_head => Activations {
                most: HEAD_MOST,
                ..Activations::whole(Dtype::I16, output_scale(&layer, self.tensors)?)
            },
            Op::Conv { .. } => Activations::whole(self.dtype, own_scale),
            _ => first,
        };
        scales.output = out.scale;
        let output = match layer.op {
            Op::Conv {
                residual: Some(residual),
                ..
            } => residual,
            _ => self.done.layers.len() + 1,
        };
        layer.output = output;
        self.places[old_output] = output;
        // A residual is overwritten.
        self.converted
            .retain(|&from, to| from != output && *to != output);
        self.append(layer, out, scales, first);
        Ok(())
    }

    /// Gives the layer's inputs the ids that they have here, in the type that it computes in.
    fn rename(&mut self, layer: &mut Layer, whole: bool) {
        let mut place = |id: TensorId| self.in_type(self.places[id], whole);
        match &mut layer.op {
            Op::Conv {
                sources, residual, ..
            } => {
                sources.iter_mut().for_each(|(id, _)| *id = place(*id));
                residual.iter_mut().for_each(|id| *id = place(*id));
            }
            Op::MaxPool(id, _) | Op::AvgPool(id, _) | Op::Pad(id, _) | Op::Convert(id) => {
                *id = place(*id);
            }
            Op::Elementwise { .. } => unreachable!("check_operations refuses them"),
        }
    }

    /// The tensor in whole numbers or in bf16.
    fn in_type(&mut self, id: TensorId, whole: bool) -> TensorId {
        let from = self.of_tensor[id];
        if (from.dtype != Dtype::Bf16) == whole {
            return id;
        }
        if let Some(&there) = self.converted.get(&id) {
            return there;
        }
        let out = match whole {
            true => Activations::whole(self.dtype, from.own_scale),
            false => Activations::bf16(from.own_scale),
        };
        let name = self.done.layers[id - 1].name.clone();
        let kind = if whole { "int8" } else { "bf16" };
        let output = self.done.layers.len() + 1;
        let layer = Layer {
            name: format!("{name} as {kind}"),
            output,
            op: Op::Convert(id),
        };
        let scales = Scales {
            input: from.scale,
            output: out.scale,
            ..Scales::F32
        };
        self.converted.insert(id, output);
        self.append(layer, out, scales, from);
        output
    }

    fn append(&mut self, layer: Layer, out: Activations, scales: Scales, first: Activations) {
        // Ids are the layers' places: a layer that adds in place leaves one unused.
        self.of_tensor.push(out);
        self.of_tensor[layer.output] = out;
        self.done.layers.push(layer);
        self.done.arithmetic.push(Arithmetic {
            dtype: first.dtype,
            out: out.dtype,
            algorithm: Algorithm::Direct,
            scales,
            most_in: first.most,
            most: out.most,
        });
    }
}

/// True if the layer's convolutions have scales.
fn is_whole(layer: &Layer, tensors: &Tensors) -> bool {
    layer
        .convs()
        .any(|conv| tensors.contains(&format!("{}.weight_scale", conv.conv)))
}

/// True if the pool before fc has 12 bits: fc has scales, or there is none.
fn has_whole_head(tensors: &Tensors) -> bool {
    tensors.contains("fc.weight_scale") || !tensors.contains("fc.weight")
}

/// The place of the pool before fc.
fn head_of(layers: &[Layer]) -> usize {
    let has_fc = layers.last().is_some_and(Layer::is_fc);
    layers.len() - 1 - usize::from(has_fc)
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
        Op::MaxPool(..) | Op::AvgPool(..) | Op::Pad(..) | Op::Convert(_) => false,
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
    let (mut whole, mut real) = (Vec::new(), Vec::new());
    let of_whole: HashSet<&str> = layers
        .iter()
        .filter(|layer| is_whole(layer, tensors))
        .flat_map(|layer| layer.convs().map(|conv| conv.conv.as_str()))
        .collect();
    let convolutions = operations
        .iter()
        .filter(|operation| operation.convolution().is_some());
    for operation in convolutions {
        let parameters = operation.named_parameters().into_iter();
        for (name, shape) in parameters.filter(|(name, _)| name.ends_with(".weight")) {
            if of_whole.contains(operation.name.as_str()) {
                real.push((format!("{name}_scale"), vec![shape[0]]));
                whole.push((name, shape));
            } else {
                real.push((name, shape));
            }
        }
    }
    let head = head_of(layers);
    for (i, layer) in layers.iter().enumerate() {
        if let Some(conv) = layer.convs().next() {
            real.push((format!("{}.bias", conv.conv), vec![conv.out_channels]));
        }
        if has_output_scale(layer, i == head && has_whole_head(tensors)) {
            real.push((format!("{}.output_scale", layer.name), vec![1]));
        }
    }
    let has_fc = layers.last().is_some_and(Layer::is_fc);
    tensors.check_kinds(&real, &whole, (!has_fc).then_some("fc."))
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
