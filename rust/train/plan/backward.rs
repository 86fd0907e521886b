//! The steps of the backward pass, node by node.

use super::build::{Builder, Placed};
use super::step::TrainStep;
use crate::kernels::loss::CrossEntropyLayer;
use crate::kernels::norm::{Activate, Summand};
use crate::kernels::pool::{AvgPoolGradient, MaxPoolGradient, NormBytes};
use crate::shape::PoolWindow;
use crate::train::graph::{Node, NodeKind, Tensor};

impl Builder<'_> {
    /// The step that computes the loss and its gradient by the logits.
    pub(super) fn loss(&mut self) {
        let logits = self.inputs.graph.logits;
        let gradient = self.tensor(self.shapes[logits], self.gradient_borders[logits]);
        self.gradients[logits] = Some(gradient);
        self.name = "loss".into();
        let value = self.value(logits);
        let step = CrossEntropyLayer {
            logits: value.view,
            gradient: Some(gradient.view),
        };
        self.push(TrainStep::Loss(step), &[value.slot, gradient.slot]);
        self.zero_border(gradient);
    }

    /// Appends the steps of a node.
    pub(super) fn backward(&mut self, node: &Node) {
        let Some(gradient) = self.gradients[node.out] else {
            return;
        };
        match &node.kind {
            NodeKind::Conv {
                input,
                conv,
                operation,
                ..
            } => {
                let place = self.inputs.parameters.conv_of(*operation);
                if self.inputs.trainable.0[*operation] {
                    self.weight_gradient(*input, gradient, place);
                }
                if self.needed[*input] {
                    self.input_gradient(*input, gradient, conv, place);
                }
            }
            NodeKind::Activate { a, b, relu } => {
                self.activation_gradient(node.out, gradient, *a, *b, *relu);
            }
            NodeKind::MaxPool(input, window) if self.needed[*input] => {
                self.max_pool_gradient(*input, gradient, *window);
            }
            NodeKind::AvgPool(input, window) if self.needed[*input] => {
                self.avg_pool_gradient(*input, gradient, *window, 0);
            }
            NodeKind::Pad(input, pad) if self.needed[*input] => {
                self.avg_pool_gradient(*input, gradient, Some(pad.window), pad.before);
            }
            _ => {}
        }
    }

    /// The gradient of a max pool by its input.
    fn max_pool_gradient(&mut self, input: Tensor, gradient: Placed, window: Option<PoolWindow>) {
        let (into, add) = self.gradient_of(input);
        let target = if add { self.like(into) } else { into };
        let (value, norm, slots) = match self.inputs.graph.recomputed_from(input) {
            Some(y) => {
                let (coefficients, slot) = self.coefficients_of(y);
                let norm = NormBytes {
                    scale_bytes: coefficients.scale_bytes(),
                    shift_bytes: coefficients.shift_bytes(),
                };
                let value = self.value(y);
                (value.view, Some(norm), vec![value.slot, slot])
            }
            None => {
                let value = self.value(input);
                (value.view, None, vec![value.slot])
            }
        };
        let step = MaxPoolGradient {
            input: value,
            norm,
            out_gradient: gradient.view,
            in_gradient: target.view,
            window,
        };
        let slots = [slots, vec![gradient.slot, target.slot]].concat();
        self.push(TrainStep::MaxPoolGradient(step), &slots);
        if add {
            self.add(target, into);
        }
    }

    /// The gradient of an average pool by its input, from the channels of the output that begin with
    /// `first_channel`.
    fn avg_pool_gradient(
        &mut self,
        input: Tensor,
        gradient: Placed,
        window: Option<PoolWindow>,
        first_channel: usize,
    ) {
        let (into, accumulate) = self.gradient_of(input);
        let step = AvgPoolGradient {
            out_gradient: gradient.view,
            in_gradient: into.view,
            window,
            first_channel,
            accumulate,
        };
        self.push(
            TrainStep::AvgPoolGradient(step),
            &[gradient.slot, into.slot],
        );
    }

    /// The place of a tensor's gradient, and true if there is a part of it already.
    pub(super) fn gradient_of(&mut self, tensor: Tensor) -> (Placed, bool) {
        if let Some(placed) = self.gradients[tensor] {
            return (placed, true);
        }
        let placed = self.tensor(self.shapes[tensor], self.gradient_borders[tensor]);
        self.gradients[tensor] = Some(placed);
        (placed, false)
    }

    /// A new tensor of the same shape.
    pub(super) fn like(&mut self, placed: Placed) -> Placed {
        let view = placed.view;
        self.tensor([view.height, view.width, view.channels], view.border)
    }

    /// `to += from`.
    pub(super) fn add(&mut self, from: Placed, to: Placed) {
        let out = to.view.without_border();
        let step = Activate {
            a: Summand::Plain(to.view),
            b: Some(Summand::Plain(from.view)),
            relu: false,
            out,
        };
        self.push(TrainStep::Activate(step), &[from.slot, to.slot]);
    }

    /// Zeros around a gradient, if its readers need them.
    pub(super) fn zero_border(&mut self, gradient: Placed) {
        if gradient.view.border > 0 {
            self.push(TrainStep::ZeroBorder(gradient.view), &[gradient.slot]);
        }
    }
}
