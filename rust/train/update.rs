//! A step of the optimiser over all parameters.

use std::ops::Range;

use super::optimizer::{Group, Hyperparameters, Method};
use super::state::Set;
use super::trainer::Trainer;
use crate::error::Error;
use crate::kernels::optimizer::{AdamW, AdamWTensor, AverageTensor, CHUNK, SgdArgs, SgdTensor};
use crate::simd::flush_denormals;
use crate::threads::{Call, Team, turn};

/// Some elements of the parameters that a step treats alike.
#[derive(Clone, Debug)]
struct Run {
    elements: Range<usize>,
    group: Group,
}

impl Trainer {
    /// Sets the part of each parameter in a step, by torchvision's names; others keep theirs.
    ///
    /// # Errors
    /// A name is not that of a parameter.
    pub fn set_groups(&mut self, groups: &[(String, Group)]) -> Result<(), Error> {
        for (name, group) in groups {
            let named = self.parameters.tensors.iter().position(|n| n.name == *name);
            let at = named.ok_or_else(|| {
                Error::Argument(format!("groups: {name}: not a parameter of this network"))
            })?;
            self.groups[at] = *group;
        }
        Ok(())
    }

    /// The elements of all parameters that train, in runs of at most a chunk. Runs depend on the network
    /// only, so sums over them do not depend on the number of threads.
    fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (named, &group) in self.parameters.tensors.iter().zip(&self.groups) {
            if !self.trainable.0[named.operation] {
                continue;
            }
            for elements in self.parameters.runs(&named.place) {
                for start in elements.clone().step_by(CHUNK) {
                    let end = (start + CHUNK).min(elements.end);
                    runs.push(Run {
                        elements: start..end,
                        group,
                    });
                }
            }
        }
        runs
    }

    /// Does a step with the gradients that are there. Returns their norm if it is bounded; a norm that is not
    /// finite changes nothing.
    ///
    /// # Errors
    /// There is not enough memory, or the caller has ended the call.
    pub fn update(&mut self, call: Call, numbers: &Hyperparameters) -> Result<Option<f64>, Error> {
        let (threads, watch) = call.checked(self.threads)?;
        let team = Team::get(threads);
        let turn = turn(&team, watch)?;
        if !matches!(numbers.method, Method::Sgd { momentum: 0.0, .. }) {
            self.state.make(Set::First, &self.parameters)?;
        }
        if matches!(numbers.method, Method::AdamW { .. }) {
            self.state.make(Set::Second, &self.parameters)?;
        }
        if numbers.average.is_some() {
            self.state.make(Set::Average, &self.parameters)?;
        }
        let runs = self.runs();
        let kernels = self.table.f32.optimizer;
        self.progress.reset([turn.threads(); 2].into_iter());
        let norm = numbers.clip_norm.map(|_| {
            let gradients: &[f32] = self.state.gradients.as_slice_of();
            let mut sums = vec![0.0_f64; runs.len()];
            let places = Places(sums.as_mut_ptr());
            let progress = &self.progress;
            turn.run(|worker| {
                let work = |item: usize| {
                    let values = &gradients[runs[item].elements.clone()];
                    // SAFETY: the table proves the tier; each item has a place of its own.
                    unsafe { *places.at(item) = (kernels.sum_of_squares)(values) };
                };
                progress.for_each(0, runs.len(), worker.index, work, || ());
            });
            sums.iter().sum::<f64>().sqrt()
        });
        if norm.is_some_and(|norm| !norm.is_finite()) {
            return Ok(norm);
        }
        let grad_scale = match (numbers.clip_norm, norm) {
            // As torch's clip_grad_norm_ does.
            (Some(most), Some(norm)) => (most / (norm + 1e-6)).min(1.0) as f32,
            _ => 1.0,
        };
        self.steps += 1;
        let state = &mut self.state;
        let pointer = |buffer: &mut crate::memory::Buffer| {
            Places(buffer.as_mut_slice_of::<f32>().as_mut_ptr())
        };
        let none = || Places(std::ptr::null_mut());
        let values = pointer(&mut state.values);
        let gradients = pointer(&mut state.gradients);
        let first = state.first.as_mut().map_or_else(none, pointer);
        let second = state.second.as_mut().map_or_else(none, pointer);
        let averages = match (&mut state.average, numbers.average) {
            (Some([values, _]), Some(keep)) => Some((pointer(values), (1.0 - keep) as f32)),
            _ => None,
        };
        let (steps, progress) = (self.steps, &self.progress);
        let work = |item: usize| {
            let Run { elements, group } = &runs[item];
            let (at, len) = (elements.start, elements.len());
            let lr = numbers.lr * group.lr_scale;
            let weight_decay = if group.decays {
                numbers.weight_decay
            } else {
                0.0
            };
            // SAFETY: the table proves the tier; runs are apart, lie inside the buffers, and are at most a
            // chunk, the first item of each tensor.
            unsafe {
                match numbers.method {
                    Method::Sgd { momentum, nesterov } => {
                        let args = SgdArgs {
                            lr: lr as f32,
                            momentum: momentum as f32,
                            nesterov,
                            weight_decay: weight_decay as f32,
                            grad_scale,
                            // The memory is zero before the first step, which has the same effect.
                            first_step: false,
                        };
                        let tensor = SgdTensor {
                            weights: values.at(at),
                            gradients: gradients.at(at),
                            momentum: first.at(at),
                            len,
                        };
                        tensor.run_item(0, &args, kernels.sgd);
                    }
                    Method::AdamW { beta1, beta2, eps } => {
                        let adamw = AdamW {
                            lr,
                            beta1,
                            beta2,
                            eps,
                            weight_decay,
                        };
                        let tensor = AdamWTensor {
                            weights: values.at(at),
                            gradients: gradients.at(at),
                            first: first.at(at),
                            second: second.at(at),
                            len,
                        };
                        tensor.run_item(0, &adamw.args(steps, grad_scale), kernels.adamw);
                    }
                }
                if let Some((average, part)) = averages {
                    let tensor = AverageTensor {
                        average: average.at(at),
                        weights: values.at(at),
                        len,
                    };
                    tensor.run_item(0, part, kernels.average);
                }
            }
        };
        turn.run(|worker| {
            flush_denormals(|| progress.for_each(1, runs.len(), worker.index, work, || ()));
        });
        if let (Some([_, average]), Some(keep)) = (&mut self.state.average, numbers.average) {
            let statistics = self.state.statistics.as_slice_of::<f32>();
            let average = average.as_mut_slice_of::<f32>();
            for (average, &value) in average.iter_mut().zip(statistics) {
                *average += (1.0 - keep) as f32 * (value - *average);
            }
        }
        Ok(norm)
    }
}

/// Places that items write apart from each other.
#[derive(Clone, Copy)]
struct Places<T>(*mut T);

// SAFETY: each item writes places of its own.
unsafe impl<T> Send for Places<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Places<T> {}

impl<T> Places<T> {
    fn at(self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
}
