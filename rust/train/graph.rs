//! The operations of a network, put together as training runs them.
//!
//! A convolution's output stays in memory until its gradient is known. What comes after it, batch norm,
//! addition and ReLU, is one pass over the data: an *activation*. The activation of a single convolution
//! can be computed again from the convolution's output and a scale and a shift for each channel, so it does
//! not stay in memory.

use crate::error::Error;
use crate::graph::operations::{ChannelPad, Convolution, Kind, Operation};
use crate::shape::PoolWindow;

/// A tensor of the training graph: 0 is the image.
pub type Tensor = usize;

/// A summand of an activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// A tensor.
    Plain(Tensor),
    /// The output of a convolution, normalised by its batch norm.
    Normalized(Tensor),
}

impl Branch {
    /// The tensor.
    pub fn tensor(self) -> Tensor {
        let (Self::Plain(tensor) | Self::Normalized(tensor)) = self;
        tensor
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name of the last operation in it.
    pub name: String,
    /// The result.
    pub out: Tensor,
    /// The computation.
    pub kind: NodeKind,
}

/// The kinds of nodes.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeKind {
    /// A convolution, or the fully connected layer, without batch norm.
    Conv {
        /// The input.
        input: Tensor,
        /// Its numbers.
        conv: Convolution,
        /// The operation, by index.
        operation: usize,
        /// The batch norm of the output, by index, and its epsilon.
        norm: Option<(usize, f64)>,
        /// True if an activation follows.
        is_activated: bool,
    },
    /// `relu(a + b)`.
    Activate {
        /// The first summand.
        a: Branch,
        /// The second one.
        b: Option<Branch>,
        /// Makes negative results zero.
        relu: bool,
    },
    /// A max pool.
    MaxPool(Tensor, Option<PoolWindow>),
    /// An average pool.
    AvgPool(Tensor, Option<PoolWindow>),
    /// A mean between channels of zeros.
    Pad(Tensor, ChannelPad),
}

/// A network as training runs it.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The nodes, in the order of the forward pass.
    pub nodes: Vec<Node>,
    /// For each tensor the node that computes it; None for the image.
    pub producer: Vec<Option<usize>>,
    /// The logits.
    pub logits: Tensor,
}

/// An operation's output, as far as it has been computed.
#[derive(Clone, Copy)]
enum Value {
    Ready(Tensor),
    /// A batch norm, or nothing, and perhaps ReLU, not yet applied.
    Single(Branch, bool),
    /// An addition without its ReLU.
    Sum(Branch, Branch),
}

struct Builder<'a> {
    operations: &'a [Operation],
    nodes: Vec<Node>,
    producer: Vec<Option<usize>>,
    /// The outputs of the operations, and the image at first.
    values: Vec<Value>,
    /// For each of them the number of operations that read it.
    readers: Vec<usize>,
}

impl Graph {
    /// Puts `operations` together.
    ///
    /// # Errors
    /// A batch norm follows something else than a convolution, or there is no fully connected layer.
    pub fn new(operations: &[Operation]) -> Result<Self, Error> {
        let is_fc = |operation: &Operation| matches!(operation.kind, Kind::Linear { .. });
        if !operations.last().is_some_and(is_fc) {
            return Err(Error::Argument(
                "training: expected a network with a fully connected layer at its end; give num_classes"
                    .into(),
            ));
        }
        let mut readers = vec![0; operations.len() + 1];
        for input in operations.iter().flat_map(|operation| &operation.inputs) {
            readers[*input] += 1;
        }
        let mut builder = Builder {
            operations,
            nodes: Vec::new(),
            producer: vec![None],
            values: vec![Value::Ready(0)],
            readers,
        };
        for i in 0..operations.len() {
            builder.add(i)?;
        }
        let logits = builder.ready(operations.len());
        Ok(Self {
            nodes: builder.nodes,
            producer: builder.producer,
            logits,
        })
    }

    /// True if `tensor` is the activation of a single convolution, which is computed again from that
    /// convolution's output.
    pub fn recomputed_from(&self, tensor: Tensor) -> Option<Tensor> {
        match self.nodes[self.producer[tensor]?].kind {
            NodeKind::Activate {
                a: Branch::Normalized(y),
                b: None,
                relu: true,
            } => Some(y),
            _ => None,
        }
    }
}

impl Builder<'_> {
    fn push(&mut self, operation: usize, kind: NodeKind) -> Tensor {
        let out = self.producer.len();
        self.producer.push(Some(self.nodes.len()));
        self.nodes.push(Node {
            name: self.operations[operation].name.clone(),
            out,
            kind,
        });
        out
    }

    /// The output `value` as a tensor, computed now if it is not yet.
    fn ready(&mut self, value: usize) -> Tensor {
        let kind = match self.values[value] {
            Value::Ready(tensor) | Value::Single(Branch::Plain(tensor), false) => return tensor,
            Value::Single(a, relu) => NodeKind::Activate { a, b: None, relu },
            Value::Sum(a, b) => NodeKind::Activate {
                a,
                b: Some(b),
                relu: false,
            },
        };
        let tensor = self.push(value - 1, kind);
        self.values[value] = Value::Ready(tensor);
        tensor
    }

    /// The output `value` as a summand.
    fn branch(&mut self, value: usize) -> Branch {
        match self.values[value] {
            Value::Single(branch, false) => branch,
            _ => Branch::Plain(self.ready(value)),
        }
    }

    fn add(&mut self, i: usize) -> Result<(), Error> {
        let operation = &self.operations[i];
        let input = operation.inputs[0];
        let value = match operation.kind {
            Kind::Conv(_) | Kind::Linear { .. } => {
                let conv = operation.convolution();
                let kind = NodeKind::Conv {
                    input: self.ready(input),
                    conv: conv.unwrap_or_else(|| unreachable!("it is one")),
                    operation: i,
                    norm: None,
                    is_activated: false,
                };
                Value::Ready(self.push(i, kind))
            }
            Kind::BatchNorm { epsilon, .. } => self.norm(i, input, epsilon)?,
            Kind::Relu => match self.values[input] {
                Value::Ready(tensor) => Value::Single(self.activated(tensor), true),
                Value::Single(branch, _) => Value::Single(branch, true),
                Value::Sum(a, b) => {
                    let kind = NodeKind::Activate {
                        a,
                        b: Some(b),
                        relu: true,
                    };
                    Value::Ready(self.push(i, kind))
                }
            },
            Kind::Add => {
                let other = operation.inputs[1];
                let a = self.branch(input);
                Value::Sum(a, self.branch(other))
            }
            Kind::MaxPool(window) => {
                let input = self.ready(input);
                Value::Ready(self.push(i, NodeKind::MaxPool(input, window)))
            }
            Kind::AvgPool(window) => {
                let input = self.ready(input);
                Value::Ready(self.push(i, NodeKind::AvgPool(input, window)))
            }
            Kind::Pad(pad) => {
                let input = self.ready(input);
                Value::Ready(self.push(i, NodeKind::Pad(input, pad)))
            }
        };
        self.values.push(value);
        // Computed once, not by each of its readers.
        if self.readers[i + 1] > 1 {
            self.ready(i + 1);
        }
        Ok(())
    }

    /// `tensor` as a summand: a convolution's output counts as normalised, by a scale of 1 if it has no
    /// batch norm.
    fn activated(&mut self, tensor: Tensor) -> Branch {
        let node = self.producer[tensor].map(|at| &mut self.nodes[at].kind);
        match node {
            Some(NodeKind::Conv { is_activated, .. }) => {
                *is_activated = true;
                Branch::Normalized(tensor)
            }
            _ => Branch::Plain(tensor),
        }
    }

    fn norm(&mut self, i: usize, input: usize, epsilon: f64) -> Result<Value, Error> {
        let Value::Ready(tensor) = self.values[input] else {
            return Err(self.cannot_train(i));
        };
        match self.producer[tensor].map(|at| &mut self.nodes[at].kind) {
            Some(NodeKind::Conv {
                norm, is_activated, ..
            }) if self.readers[input] == 1 => {
                *norm = Some((i, epsilon));
                *is_activated = true;
                Ok(Value::Single(Branch::Normalized(tensor), false))
            }
            _ => Err(self.cannot_train(i)),
        }
    }

    fn cannot_train(&self, i: usize) -> Error {
        let name = &self.operations[i].name;
        Error::Argument(format!(
            "training: expected batch norm {name} right after a convolution"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::family;

    fn graph(name: &str) -> Graph {
        Graph::new(&family::named(name).unwrap().operations(10, 1)).unwrap()
    }

    #[test]
    fn a_bottleneck_is_three_convolutions_and_as_many_activations() {
        let graph = graph("resnet50");
        let names: Vec<_> = graph
            .nodes
            .iter()
            .filter(|node| node.name.starts_with("layer1.0"))
            .map(|node| node.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "layer1.0.conv1",
                "layer1.0.relu1",
                "layer1.0.conv2",
                "layer1.0.relu2",
                "layer1.0.conv3",
                "layer1.0.downsample.0",
                "layer1.0"
            ]
        );
    }

    #[test]
    fn inner_activations_are_computed_again_and_sums_are_not() {
        let graph = graph("resnet18");
        for node in &graph.nodes {
            let again = graph.recomputed_from(node.out).is_some();
            let is_inner = node.name == "relu" || node.name.contains(".relu");
            assert_eq!(again, is_inner, "{}", node.name);
        }
        assert_eq!(graph.producer[graph.logits], Some(graph.nodes.len() - 1));
    }

    #[test]
    fn a_network_without_classes_is_refused() {
        let operations = family::named("resnet18").unwrap().operations(0, 1);
        let message = Graph::new(&operations).unwrap_err().to_string();
        assert!(message.contains("num_classes"), "{message}");
    }
}
