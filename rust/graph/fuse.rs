//! From operations to layers: operations are fused into the convolution before them.
//!
//! ```text
//! conv → bn → relu                        one layer
//! conv → bn ─→ add → relu                 one layer; the sum is written over the block's input
//!         x ─┘
//! conv1x1 → bn ─→ add → relu              one layer with two inputs: the shortcut's channels are
//! downsample → bn ─┘                      further terms of the same sums
//! ```
//!
//! In f32 a 3x3 convolution before an addition stays alone, so that it can run with Winograd's algorithm;
//! its shortcut's convolution is a layer of its own. In int8 and bf16 it is fused too: there is one rounding in place of
//! two, and in int8 the output of such a layer might be negative, which activations are not.

use std::collections::HashSet;

use super::layer::{ConvSpec, Layer, Norm, Op};
use super::operations::{Convolution, Kind, Operation, TensorId};

/// The operations that are fused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusion {
    /// None: each is a layer of its own.
    Nothing,
    /// Those around convolutions, as f32 kernels take them.
    ForF32,
    /// Those around convolutions, and every shortcut's convolution, as int8 and bf16 kernels take them.
    WithShortcuts,
}

/// The layers of a forward.
pub fn fuse(operations: &[Operation], fusion: Fusion) -> Vec<Layer> {
    let mut fusing = Fusing {
        fusion,
        layers: Vec::new(),
        values: vec![Value::Tensor(0)],
    };
    for operation in operations {
        let value = fusing.value(operation);
        fusing.values.push(value);
    }
    // No operation reads the last one, so nothing has made a layer of it yet.
    fusing.tensor(operations.len());
    fusing.layers
}

/// An operation's output so far.
#[derive(Clone, Debug)]
enum Value {
    /// The output of a layer.
    Tensor(TensorId),
    /// A sum that no layer computes yet, so further operations may be fused into it.
    Sum(Sum),
}

#[derive(Clone, Debug)]
struct Sum {
    /// The name of the last operation in it.
    name: String,
    sources: Vec<(TensorId, ConvSpec)>,
    residual: Option<TensorId>,
}

struct Fusing {
    fusion: Fusion,
    layers: Vec<Layer>,
    /// By operation, the image first.
    values: Vec<Value>,
}

impl Fusing {
    /// The value of an operation, whose inputs have theirs.
    fn value(&mut self, operation: &Operation) -> Value {
        let name = &operation.name;
        let input = operation.inputs[0];
        if let Some(spec) = conv_spec(operation) {
            let sum = Sum {
                name: name.clone(),
                sources: vec![(self.tensor(input), spec)],
                residual: None,
            };
            return if self.fusion != Fusion::Nothing {
                Value::Sum(sum)
            } else {
                self.push_sum(sum, false)
            };
        }
        match operation.kind {
            Kind::BatchNorm { channels, epsilon } => {
                let norm = Norm {
                    name: name.clone(),
                    epsilon,
                };
                match self.values[input].clone() {
                    Value::Sum(mut sum) => {
                        sum.name.clone_from(name);
                        sum.sources[0].1.norm = Some(norm);
                        Value::Sum(sum)
                    }
                    Value::Tensor(a) => self.elementwise(name, a, Some((norm, channels)), None),
                }
            }
            Kind::Add => self.add(name, input, operation.inputs[1]),
            Kind::Relu => match self.values[input].clone() {
                Value::Sum(mut sum) => {
                    sum.name.clone_from(name);
                    self.push_sum(sum, true)
                }
                Value::Tensor(a) => {
                    // The ReLU is fused into an addition that is a layer of its own.
                    if let Some(Layer {
                        name: last,
                        output,
                        op:
                            Op::Elementwise {
                                b: Some(_), relu, ..
                            },
                    }) = self.layers.last_mut()
                        && self.fusion != Fusion::Nothing
                        && *output == a
                    {
                        *relu = true;
                        last.clone_from(name);
                        return Value::Tensor(a);
                    }
                    let op = Op::Elementwise {
                        a,
                        norm: None,
                        b: None,
                        relu: true,
                    };
                    self.push(name, op)
                }
            },
            Kind::MaxPool(window) => {
                let op = Op::MaxPool(self.tensor(input), window);
                self.push(name, op)
            }
            Kind::AvgPool(window) => {
                let op = Op::AvgPool(self.tensor(input), window);
                self.push(name, op)
            }
            Kind::Pad(pad) => {
                let op = Op::Pad(self.tensor(input), pad);
                self.push(name, op)
            }
            Kind::Conv(_) | Kind::Linear { .. } => unreachable!("they have a ConvSpec"),
        }
    }

    fn add(&mut self, name: &str, a: TensorId, b: TensorId) -> Value {
        let Value::Sum(mut sum) = self.values[a].clone() else {
            let (a, b) = (self.tensor(a), self.tensor(b));
            return self.elementwise(name, a, None, Some(b));
        };
        sum.name = name.into();
        match self.values[b].clone() {
            Value::Sum(shortcut)
                if sum.sources[0].1.kernel == 1 || self.fusion == Fusion::WithShortcuts =>
            {
                sum.sources.extend(shortcut.sources);
            }
            Value::Sum(_) | Value::Tensor(_) => sum.residual = Some(self.tensor(b)),
        }
        Value::Sum(sum)
    }

    /// The tensor of operation `id`, computed by a layer of its own if no layer does so yet.
    fn tensor(&mut self, id: usize) -> TensorId {
        let value = match self.values[id].clone() {
            Value::Sum(sum) => self.push_sum(sum, false),
            tensor @ Value::Tensor(_) => tensor,
        };
        self.values[id] = value.clone();
        match value {
            Value::Tensor(tensor) => tensor,
            Value::Sum(_) => unreachable!("it has just become a tensor"),
        }
    }

    fn elementwise(
        &mut self,
        name: &str,
        a: TensorId,
        norm: Option<(Norm, usize)>,
        b: Option<TensorId>,
    ) -> Value {
        let op = Op::Elementwise {
            a,
            norm,
            b,
            relu: false,
        };
        self.push(name, op)
    }

    fn push_sum(&mut self, sum: Sum, relu: bool) -> Value {
        let op = Op::Conv {
            sources: sum.sources,
            residual: sum.residual,
            relu,
        };
        self.push(&sum.name, op)
    }

    /// Appends a layer. A residual is added in place: nothing reads the block's input any more.
    fn push(&mut self, name: &str, op: Op) -> Value {
        let output = match op {
            Op::Conv {
                residual: Some(residual),
                ..
            } => residual,
            _ => self.layers.len() + 1,
        };
        self.layers.push(Layer {
            name: name.into(),
            output,
            op,
        });
        Value::Tensor(output)
    }
}

/// An operation's convolution, without batch norm.
fn conv_spec(operation: &Operation) -> Option<ConvSpec> {
    let Convolution {
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        dilation,
        groups,
        bias,
    } = operation.convolution()?;
    Some(ConvSpec {
        conv: operation.name.clone(),
        bias,
        norm: None,
        in_channels,
        out_channels,
        kernel,
        stride,
        padding,
        dilation,
        groups,
    })
}

/// For each operation the name of the layer that it is part of, in the operations' order.
pub fn fused_into(operations: &[Operation], layers: &[Layer]) -> Vec<String> {
    // A layer's name is its last operation's, and its others come before: an operation that gives no
    // layer its name belongs to the layer of its one reader.
    let is_layer: HashSet<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
    let mut readers = vec![None; operations.len() + 1];
    for (i, operation) in operations.iter().enumerate().rev() {
        for &input in &operation.inputs {
            readers[input] = Some(i);
        }
    }
    let mut names: Vec<String> = operations.iter().map(|o| o.name.clone()).collect();
    for i in (0..operations.len()).rev() {
        if let Some(reader) = readers[i + 1]
            && !is_layer.contains(operations[i].name.as_str())
        {
            names[i] = names[reader].clone();
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::family;

    fn layers(name: &str, fusion: Fusion) -> Vec<Layer> {
        fuse(&family::named(name).unwrap().operations(10, 1), fusion)
    }

    fn names(layers: &[Layer]) -> Vec<&str> {
        layers.iter().map(|layer| layer.name.as_str()).collect()
    }

    #[test]
    fn a_bottleneck_is_three_layers() {
        let layers = layers("resnet50", Fusion::ForF32);
        assert_eq!(
            names(&layers)[..8],
            [
                "relu",
                "maxpool",
                "layer1.0.relu1",
                "layer1.0.relu2",
                "layer1.0",
                "layer1.1.relu1",
                "layer1.1.relu2",
                "layer1.1"
            ]
        );
        assert_eq!(names(&layers)[layers.len() - 2..], ["avgpool", "fc"]);
        // The first block's shortcut is part of its last layer, the second's is added in place.
        assert_eq!(layers[4].convs().count(), 2);
        let Op::Conv { residual, .. } = layers[7].op else {
            panic!("a convolution")
        };
        assert_eq!((residual, layers[7].output), (Some(5), 5));
    }

    #[test]
    fn a_basic_block_keeps_its_shortcut_apart() {
        let layers = layers("resnet18", Fusion::ForF32);
        let all = names(&layers);
        let at = all.iter().position(|n| *n == "layer2.0.relu1").unwrap();
        assert_eq!(all[at + 1..at + 3], ["layer2.0.downsample.1", "layer2.0"]);
        assert!(matches!(
            layers[at + 2].op,
            Op::Conv { residual: Some(id), relu: true, .. } if id == layers[at + 1].output
        ));
    }

    #[test]
    fn in_int8_no_output_but_that_of_fc_may_be_negative() {
        for name in ["resnet18", "resnet50", "resnet50d", "cifar_resnet20"] {
            for layer in layers(name, Fusion::WithShortcuts) {
                match layer.op {
                    Op::Conv { relu, .. } => assert!(relu || layer.is_fc(), "{}", layer.name),
                    Op::Elementwise { .. } => panic!("{name}: {}", layer.name),
                    Op::MaxPool(..) | Op::AvgPool(..) | Op::Pad(..) | Op::Convert(_) => {}
                }
            }
        }
        let layers = layers("resnet18", Fusion::WithShortcuts);
        let last = layers
            .iter()
            .find(|layer| layer.name == "layer2.0")
            .unwrap();
        let kernels: Vec<_> = last.convs().map(|conv| conv.kernel).collect();
        assert_eq!(kernels, [3, 1]);
    }

    #[test]
    fn a_shortcut_without_weights_is_a_layer_that_is_added_in_place() {
        let layers = layers("cifar_resnet20", Fusion::ForF32);
        let all = names(&layers);
        let at = all.iter().position(|n| *n == "layer2.0.relu1").unwrap();
        assert_eq!(all[at + 1..at + 3], ["layer2.0.downsample", "layer2.0"]);
        assert!(matches!(layers[at + 1].op, Op::Pad(_, pad) if pad.before == 8));
        assert!(matches!(
            layers[at + 2].op,
            Op::Conv { residual: Some(id), relu: true, .. } if id == layers[at + 1].output
        ));
    }

    #[test]
    fn without_fusing_every_operation_is_a_layer() {
        for name in ["resnet18", "resnet50d"] {
            let operations = family::named(name).unwrap().operations(10, 1);
            let expected: Vec<_> = operations.iter().map(|o| o.name.as_str()).collect();
            assert_eq!(names(&fuse(&operations, Fusion::Nothing)), expected);
        }
    }

    #[test]
    fn a_relu_before_the_addition_leaves_the_addition_alone() {
        let mut architecture = family::named("resnet50").unwrap();
        architecture.relu_before_add = true;
        let operations = architecture.operations(10, 1);
        let layers = fuse(&operations, Fusion::ForF32);
        assert_eq!(
            names(&layers)[4..7],
            ["layer1.0.relu3", "layer1.0.downsample.1", "layer1.0"]
        );
        assert!(matches!(
            layers[6].op,
            Op::Elementwise {
                b: Some(_),
                relu: true,
                ..
            }
        ));
    }

    #[test]
    fn every_operation_is_part_of_a_layer() {
        for (name, stem) in [
            ("resnet18", "relu"),
            ("resnet50", "relu"),
            ("resnet50d", "conv1.2"),
        ] {
            let operations = family::named(name).unwrap().operations(10, 1);
            let layers = fuse(&operations, Fusion::ForF32);
            let into = fused_into(&operations, &layers);
            for (operation, layer) in operations.iter().zip(&into) {
                assert!(
                    names(&layers).contains(&layer.as_str()),
                    "{}",
                    operation.name
                );
            }
            let of = |name: &str| {
                let i = operations.iter().position(|o| o.name == name).unwrap();
                into[i].as_str()
            };
            assert_eq!(into[0], stem);
            assert_eq!(of("layer2.0.bn1"), "layer2.0.relu1");
            assert_eq!(of("layer2.0.add"), "layer2.0");
        }
    }
}
