//! The steps back through batch norm, addition and ReLU.

use super::build::{Builder, Placed};
use super::step::TrainStep;
use crate::kernels::norm::{Activate, FinishGradient, GradientSums, Mask, NormGradient, Summand};
use crate::train::graph::{Branch, NodeKind, Tensor};

impl Builder<'_> {
    /// Backwards through an activation.
    pub(super) fn activation_gradient(
        &mut self,
        out: Tensor,
        gradient: Placed,
        a: Branch,
        b: Option<Branch>,
        relu: bool,
    ) {
        match (a, b) {
            (Branch::Normalized(y), None) => {
                let mask = if relu { Mask::Normalized } else { Mask::None };
                self.sums(y, gradient, mask, &[]);
                self.norm_gradient(y, gradient, relu, gradient);
            }
            _ => self.sum_gradient(out, gradient, a, b, relu),
        }
    }

    /// True if a gradient by `branch` is of use.
    pub(super) fn trains(&self, branch: Branch) -> bool {
        match branch {
            Branch::Plain(t) => self.needed[t],
            Branch::Normalized(y) => self.needed[y] || self.trained_norm(y).is_some(),
        }
    }

    /// The batch norm of a convolution's output, if it trains.
    fn trained_norm(&self, y: Tensor) -> Option<usize> {
        let graph = self.inputs.graph;
        let node = &graph.nodes[graph.producer[y]?];
        match node.kind {
            NodeKind::Conv {
                norm: Some((operation, _)),
                ..
            } => self.inputs.trainable.0[operation].then_some(operation),
            _ => None,
        }
    }

    /// The sums of a batch norm's backward pass; those of a batch norm that does not train are not needed. A
    /// mask from memory, in `masked`, is applied in place.
    fn sums(&mut self, y: Tensor, gradient: Placed, mask: Mask, masked: &[usize]) {
        let Some(operation) = self.trained_norm(y) else {
            self.mask(gradient, mask, masked);
            return;
        };
        let value = self.value(y);
        let (coefficients, slot) = self.coefficients_of(y);
        let (blocks, blocks_bytes) = self.blocks(&value.view);
        let step = GradientSums {
            gradient: gradient.view,
            norm: Some((value.view, coefficients, blocks_bytes)),
            mask,
        };
        self.push(
            TrainStep::GradientSums(step),
            &[&[gradient.slot, value.slot, slot, blocks], masked].concat(),
        );
        let (gradients, _) = self.norm_places(operation);
        let step = FinishGradient {
            y: value.view,
            blocks_bytes,
            coefficients,
            gradients,
            accumulate: self.accumulate,
        };
        self.push(TrainStep::FinishGradient(step), &[slot, blocks]);
    }

    /// Applies a mask from memory, in `masked`, in place.
    fn mask(&mut self, gradient: Placed, mask: Mask, masked: &[usize]) {
        if !matches!(mask, Mask::Output(_)) {
            return;
        }
        let step = GradientSums {
            gradient: gradient.view,
            norm: None,
            mask,
        };
        self.push(
            TrainStep::GradientSums(step),
            &[&[gradient.slot], masked].concat(),
        );
    }

    /// From the gradient of an activation to that of the convolution's output, in `out`.
    fn norm_gradient(&mut self, y: Tensor, gradient: Placed, mask: bool, out: Placed) {
        if !self.needed[y] {
            return;
        }
        let value = self.value(y);
        let (coefficients, slot) = self.coefficients_of(y);
        let step = NormGradient {
            gradient: gradient.view,
            y: value.view,
            coefficients,
            mask,
            out: out.view,
        };
        self.push(
            TrainStep::NormGradient(step),
            &[gradient.slot, value.slot, slot, out.slot],
        );
        self.gradients[y] = Some(out);
    }

    /// Backwards through an addition and its ReLU.
    fn sum_gradient(
        &mut self,
        out: Tensor,
        gradient: Placed,
        a: Branch,
        b: Option<Branch>,
        relu: bool,
    ) {
        let branches: Vec<Branch> = [Some(a), b].into_iter().flatten().collect();
        let value = self.value(out);
        let (mut mask, masked) = match relu {
            true => (Mask::Output(value.view), vec![value.slot]),
            false => (Mask::None, vec![]),
        };
        let normalized: Vec<Tensor> = branches
            .iter()
            .filter_map(|branch| match branch {
                Branch::Normalized(y) if self.trains(*branch) => Some(*y),
                _ => None,
            })
            .collect();
        // The first batch norm's sums mask the gradient on the way.
        for &y in &normalized {
            self.sums(y, gradient, mask, &masked);
            mask = Mask::None;
        }
        self.mask(gradient, mask, &masked);
        let plain: Vec<Tensor> = branches
            .iter()
            .filter_map(|branch| match branch {
                Branch::Plain(t) if self.needed[*t] => Some(*t),
                _ => None,
            })
            .collect();
        // The last one to read the gradient takes its place.
        for (i, &y) in normalized.iter().enumerate() {
            let is_last = i + 1 == normalized.len() && plain.is_empty();
            let into = if is_last {
                gradient
            } else {
                self.like(gradient)
            };
            self.norm_gradient(y, gradient, false, into);
        }
        for (i, &t) in plain.iter().enumerate() {
            match self.gradients[t] {
                Some(into) => self.add(gradient, into),
                None if i + 1 == plain.len() => {
                    self.gradients[t] = Some(gradient);
                    if self.gradient_borders[t] > 0 {
                        self.zero_border(gradient);
                    }
                }
                None => {
                    let (into, _) = self.gradient_of(t);
                    let step = Activate {
                        a: Summand::Plain(gradient.view),
                        b: None,
                        relu: false,
                        out: into.view,
                    };
                    self.push(TrainStep::Activate(step), &[gradient.slot, into.slot]);
                }
            }
        }
    }
}
