//! The numbers of a trainer: parameters, gradients, running statistics, and the optimiser's memory.

use super::parameters::{Named, Parameters};
use crate::error::Error;
use crate::memory::Buffer;
use crate::weights::Tensors;

/// A set of numbers with a value for each parameter, or for each running statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// The parameters and the running statistics.
    Values,
    /// The gradients of the last backward pass.
    Gradients,
    /// SGD's momentum; AdamW's mean of gradients.
    First,
    /// AdamW's mean of squared gradients.
    Second,
    /// The running averages of parameters and statistics.
    Average,
}

/// The numbers of a trainer.
pub struct State {
    /// The parameters.
    pub values: Buffer,
    /// Their gradients.
    pub gradients: Buffer,
    /// The running statistics.
    pub statistics: Buffer,
    /// The optimiser's memory, from the first step on.
    pub first: Option<Buffer>,
    /// AdamW's second memory.
    pub second: Option<Buffer>,
    /// The running averages of parameters and of statistics.
    pub average: Option<[Buffer; 2]>,
}

fn buffer(len: usize, what: &str) -> Result<Buffer, Error> {
    Buffer::new(len * size_of::<f32>(), what)
}

impl State {
    /// The state of `tensors` before the first step.
    ///
    /// # Errors
    /// A tensor is missing or has wrong values, or there is not enough memory.
    pub fn new(parameters: &Parameters, tensors: &Tensors) -> Result<Self, Error> {
        let mut state = Self {
            values: buffer(parameters.len, "parameters")?,
            gradients: buffer(parameters.len, "gradients")?,
            statistics: buffer(parameters.statistics_len, "running statistics")?,
            first: None,
            second: None,
            average: None,
        };
        for (named, is_statistic) in all(parameters) {
            let values = tensors.read(&named.name)?;
            let out = match is_statistic {
                true => &mut state.statistics,
                false => &mut state.values,
            };
            parameters.write(named, &values, out.as_mut_slice_of());
        }
        Ok(state)
    }

    /// The buffers of a set: of the parameters, and of the running statistics if it has some.
    fn set(&self, set: Set) -> Option<(&Buffer, Option<&Buffer>)> {
        match set {
            Set::Values => Some((&self.values, Some(&self.statistics))),
            Set::Gradients => Some((&self.gradients, None)),
            Set::First => self.first.as_ref().map(|buffer| (buffer, None)),
            Set::Second => self.second.as_ref().map(|buffer| (buffer, None)),
            Set::Average => self.average.as_ref().map(|[v, s]| (v, Some(s))),
        }
    }

    /// Makes the buffers of a set, if they are not there yet.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn make(&mut self, set: Set, parameters: &Parameters) -> Result<(), Error> {
        let slot = match set {
            Set::First => &mut self.first,
            Set::Second => &mut self.second,
            Set::Average if self.average.is_none() => {
                let mut values = buffer(parameters.len, "averages")?;
                values.copy_from_slice(&self.values);
                let mut statistics = buffer(parameters.statistics_len, "averages")?;
                statistics.copy_from_slice(&self.statistics);
                self.average = Some([values, statistics]);
                return Ok(());
            }
            Set::Values | Set::Gradients | Set::Average => return Ok(()),
        };
        if slot.is_none() {
            *slot = Some(buffer(parameters.len, "the optimiser's memory")?);
        }
        Ok(())
    }

    /// A tensor of a set, in torchvision's layout; None if the set has no such tensor.
    pub fn read(&self, set: Set, parameters: &Parameters, name: &str) -> Option<Vec<f32>> {
        let (named, is_statistic) = all(parameters).find(|(named, _)| named.name == name)?;
        let (values, statistics) = self.set(set)?;
        let from = if is_statistic { statistics? } else { values };
        Some(parameters.read(named, from.as_slice_of()))
    }

    /// Overwrites a tensor of a set, which [`State::make`] has made.
    ///
    /// # Errors
    /// There is no such tensor, or it has another number of elements.
    pub fn write(
        &mut self,
        set: Set,
        parameters: &Parameters,
        name: &str,
        values: &[f32],
    ) -> Result<(), Error> {
        let found = all(parameters).find(|(named, _)| named.name == name);
        let Some((named, is_statistic)) = found else {
            return Err(Error::Argument(format!(
                "{name}: not a tensor of this network"
            )));
        };
        let expected: usize = named.shape.iter().product();
        if values.len() != expected {
            return Err(Error::Argument(format!(
                "{name}: expected shape {:?}, found {} elements",
                named.shape,
                values.len()
            )));
        }
        let out = match (set, is_statistic) {
            (Set::Values, true) => Some(&mut self.statistics),
            (Set::Values, false) => Some(&mut self.values),
            (Set::Gradients, false) => Some(&mut self.gradients),
            (Set::First, false) => self.first.as_mut(),
            (Set::Second, false) => self.second.as_mut(),
            (Set::Average, _) => self
                .average
                .as_mut()
                .map(|a| &mut a[usize::from(is_statistic)]),
            (_, true) => None,
        };
        let Some(out) = out else {
            return Err(Error::Argument(format!("{name}: not a tensor of this set")));
        };
        parameters.write(named, values, out.as_mut_slice_of());
        Ok(())
    }
}

/// All tensors, with true for running statistics.
pub fn all(parameters: &Parameters) -> impl Iterator<Item = (&Named, bool)> {
    let trained = parameters.tensors.iter().map(|named| (named, false));
    trained.chain(parameters.statistics.iter().map(|named| (named, true)))
}
