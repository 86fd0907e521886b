//! From the graph and a shape to the steps of a training step.

use super::slots::{Slot, Slots};
use super::step::{PlannedTrainStep, TrainStep};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::kernels::KernelShapes;
use crate::kernels::conv::TileShape;
use crate::kernels::norm::Coefficients;
use crate::kernels::view::View;
use crate::shape::Shape;
use crate::train::graph::{Graph, Node, NodeKind, Tensor};
use crate::train::parameters::Parameters;

/// Items of a convolution's step for each worker, at least.
const ITEMS_PER_WORKER: usize = 8;

/// The operations that train, by index. A batch norm that does not normalises with its running statistics and
/// leaves them as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainable(pub Vec<bool>);

/// The steps of a training step at one shape.
pub struct TrainPlan {
    /// The images' shape.
    pub shape: Shape,
    /// The number of threads that the plan is made for.
    pub threads: usize,
    /// True if gradients are added to those that are there.
    pub accumulate: bool,
    /// The steps: the forward pass, the loss, the backward pass.
    pub steps: Vec<PlannedTrainStep>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Bytes of a worker's scratch memory.
    pub scratch_bytes: usize,
}

/// The parts that a plan is made of.
pub struct Inputs<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// The places of its parameters.
    pub parameters: &'a Parameters,
    /// The operations that train.
    pub trainable: &'a Trainable,
    /// Channels of an image.
    pub channels: usize,
    /// The shapes of the tier's kernels.
    pub kernels: KernelShapes,
    /// The tile of convolutions in bf16, if they run in it.
    pub bf16: Option<TileShape>,
    /// Lets convolutions run with Winograd's algorithm.
    pub winograd: bool,
    /// The share of a batch in the running statistics.
    pub momentum: f64,
}

/// A tensor in the arena.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub(super) view: View,
    pub(super) slot: Slot,
}

/// The state while steps are made.
pub(super) struct Builder<'a> {
    pub(super) inputs: &'a Inputs<'a>,
    pub(super) shape: Shape,
    pub(super) threads: usize,
    pub(super) accumulate: bool,
    pub(super) slots: Slots,
    pub(super) steps: Vec<PlannedTrainStep>,
    /// `[height, width, channels]` of each tensor.
    pub(super) shapes: Vec<[usize; 3]>,
    /// The border that each tensor's readers need.
    pub(super) borders: Vec<usize>,
    /// The border that each gradient's readers need.
    pub(super) gradient_borders: Vec<usize>,
    /// The tensors whose gradients somebody needs.
    pub(super) needed: Vec<bool>,
    pub(super) values: Vec<Option<Placed>>,
    pub(super) gradients: Vec<Option<Placed>>,
    /// The coefficients of each convolution's output.
    pub(super) coefficients: Vec<Option<(Coefficients, Slot)>>,
    /// The tile of the node's convolution if it runs in bf16.
    pub(super) bf16: Option<TileShape>,
    pub(super) name: String,
    pub(super) is_backward: bool,
}

impl TrainPlan {
    /// Plans a training step.
    ///
    /// # Errors
    /// A batch norm that trains has a single value of a channel.
    pub fn new(
        inputs: &Inputs,
        shape: Shape,
        threads: usize,
        accumulate: bool,
    ) -> Result<Self, Error> {
        let mut builder = Builder::new(inputs, shape, threads, accumulate);
        builder.check()?;
        builder.run();
        let arena_bytes = builder.slots.placed();
        let slots = std::mem::take(&mut builder.slots);
        let mut builder = Builder::new(inputs, shape, threads, accumulate);
        builder.slots = slots;
        builder.run();
        let steps = builder.steps;
        let most = steps.iter().map(|s| s.step.scratch_bytes()).max();
        Ok(Self {
            shape,
            threads,
            accumulate,
            arena_bytes,
            scratch_bytes: most.unwrap_or(0).next_multiple_of(4096),
            steps,
        })
    }
}

impl<'a> Builder<'a> {
    fn new(inputs: &'a Inputs, shape: Shape, threads: usize, accumulate: bool) -> Self {
        let graph = inputs.graph;
        let tensors = graph.producer.len();
        let mut builder = Self {
            inputs,
            shape,
            threads,
            accumulate,
            slots: Slots::default(),
            steps: Vec::new(),
            shapes: vec![[shape.height, shape.width, inputs.channels]],
            borders: vec![0; tensors],
            gradient_borders: vec![0; tensors],
            needed: vec![false; tensors],
            values: vec![None; tensors],
            gradients: vec![None; tensors],
            coefficients: vec![None; tensors],
            bf16: None,
            name: String::new(),
            is_backward: false,
        };
        builder.measure();
        builder
    }

    /// Finds shapes, borders, and the gradients that are needed.
    fn measure(&mut self) {
        let trainable = &self.inputs.trainable.0;
        for node in &self.inputs.graph.nodes {
            let shape_of = |t: Tensor| self.shapes[t];
            let (shape, needed, border) = match &node.kind {
                NodeKind::Conv {
                    input,
                    conv,
                    operation,
                    ..
                } => {
                    let ([height, width, _], window) = (shape_of(*input), conv.window());
                    let out = [window.output(height), window.output(width)];
                    self.borders[*input] = self.borders[*input].max(conv.padding);
                    let border = match self.needed[*input] {
                        true => super::reach::border(window, height, out[0])
                            .max(super::reach::border(window, width, out[1])),
                        false => 0,
                    };
                    let needed = self.needed[*input] || trainable[*operation];
                    ([out[0], out[1], conv.out_channels], needed, border)
                }
                NodeKind::Activate { a, b, .. } => {
                    let branches = [Some(*a), *b].into_iter().flatten();
                    let tensors = || branches.clone().map(|branch| branch.tensor());
                    let needed = branches.clone().any(|branch| self.trains(branch));
                    // The gradient of a summand may lie in the same place.
                    let border = tensors().map(|t| self.gradient_borders[t]).max();
                    (shape_of(a.tensor()), needed, border.unwrap_or(0))
                }
                NodeKind::MaxPool(input, window) | NodeKind::AvgPool(input, window) => {
                    let [height, width, channels] = shape_of(*input);
                    let side = |size| window.map_or(1, |window| window.output(size));
                    let shape = [side(height), side(width), channels];
                    (shape, self.needed[*input], 0)
                }
                NodeKind::Pad(input, pad) => {
                    let [height, width, channels] = shape_of(*input);
                    let shape = [
                        pad.window.output(height),
                        pad.window.output(width),
                        pad.before + channels + pad.after,
                    ];
                    (shape, self.needed[*input], 0)
                }
            };
            self.shapes.push(shape);
            self.needed[node.out] = needed;
            self.gradient_borders[node.out] = border;
        }
    }

    /// Checks that every batch norm that trains has more than one value of a channel.
    fn check(&self) -> Result<(), Error> {
        for node in &self.inputs.graph.nodes {
            let NodeKind::Conv {
                norm: Some((operation, _)),
                ..
            } = node.kind
            else {
                continue;
            };
            let [height, width, _] = self.shapes[node.out];
            if self.inputs.trainable.0[operation] && self.shape.batch * height * width < 2 {
                return Err(Error::Argument(format!(
                    "x: expected more than one image or larger ones: the batch norm after {} has a \
                     single value of each channel (batch {}, {height} x {width})",
                    node.name, self.shape.batch
                )));
            }
        }
        Ok(())
    }

    fn run(&mut self) {
        let graph = self.inputs.graph;
        self.input();
        for node in &graph.nodes {
            self.begin(node);
            self.forward(node);
        }
        self.is_backward = true;
        self.loss();
        for node in graph.nodes.iter().rev() {
            self.begin(node);
            self.backward(node);
        }
        // The logits are read at the end.
        let logits = self.value(graph.logits);
        self.slots.touch(logits.slot, self.steps.len());
    }

    /// Begins with the steps of a node. Grouped convolutions stay in f32, for most of their panels' weights are
    /// zeros between groups, and so do the logits, whose few products are worth more than their time.
    fn begin(&mut self, node: &Node) {
        self.name.clone_from(&node.name);
        let fits = match &node.kind {
            NodeKind::Conv { conv, .. } => conv.groups == 1 && node.out != self.inputs.graph.logits,
            _ => false,
        };
        self.bf16 = self.inputs.bf16.filter(|_| fits);
    }

    /// Appends a step that uses the places `slots`.
    pub(super) fn push(&mut self, step: TrainStep, slots: &[Slot]) {
        for &slot in slots {
            self.slots.touch(slot, self.steps.len());
        }
        self.steps.push(PlannedTrainStep {
            name: self.name.clone(),
            is_backward: self.is_backward,
            step,
        });
    }

    /// A new tensor of the batch.
    pub(super) fn tensor(
        &mut self,
        [height, width, channels]: [usize; 3],
        border: usize,
    ) -> Placed {
        let shape = [self.shape.batch, height, width, channels].into();
        let layout = self.inputs.kernels.layout;
        self.place(layout.activations(Dtype::F32, shape, border))
    }

    /// A place for a view.
    pub(super) fn place(&mut self, view: View) -> Placed {
        let (slot, offset) = self.slots.add(view.len_bytes());
        Placed {
            view: view.shifted(offset),
            slot,
        }
    }

    /// The value of a tensor, which an earlier node has computed.
    pub(super) fn value(&self, tensor: Tensor) -> Placed {
        self.values[tensor].unwrap_or_else(|| unreachable!("nodes are in order"))
    }

    /// The coefficients of a convolution's output.
    pub(super) fn coefficients_of(&self, y: Tensor) -> (Coefficients, Slot) {
        self.coefficients[y].unwrap_or_else(|| unreachable!("an activated convolution has some"))
    }

    /// About how many items a convolution is cut into.
    pub(super) fn wanted_items(&self) -> usize {
        match self.threads {
            1 => 1,
            threads => ITEMS_PER_WORKER * threads,
        }
    }
}
