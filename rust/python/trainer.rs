//! The class `Trainer`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use numpy::{
    PyArray, PyArrayDyn, PyArrayMethods, PyReadonlyArray2, PyReadonlyArray4, PyUntypedArrayMethods,
};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::arrays::Arrays;
use super::signals::interruptible;
use crate::graph::config::Config;
use crate::shape::Shape;
use crate::simd::Isa;
use crate::threads::resolve_threads;
use crate::train::{Group, Hyperparameters, Method, Set, TrainOptions, Trainer as Core};
use crate::weights::Tensors;

/// A network that learns.
#[pyclass(frozen, module = "resnet_rs._core")]
pub struct Trainer {
    core: Mutex<Core>,
}

/// The set of numbers that `name` means.
fn set(name: &str) -> PyResult<Set> {
    match name {
        "values" => Ok(Set::Values),
        "gradients" => Ok(Set::Gradients),
        "first" => Ok(Set::First),
        "second" => Ok(Set::Second),
        "average" => Ok(Set::Average),
        _ => Err(PyValueError::new_err(format!(
            "set: expected values, gradients, first, second or average, found {name:?}"
        ))),
    }
}

/// The shape of a batch of images.
fn batch_shape(x: &PyReadonlyArray4<'_, f32>, in_channels: usize) -> PyResult<Shape> {
    match *x.shape() {
        [batch, height, width, channels] if channels == in_channels => Ok(Shape {
            batch,
            height,
            width,
        }),
        ref found => Err(PyValueError::new_err(format!(
            "x: expected shape [batch, height, width, {in_channels}], found {found:?}"
        ))),
    }
}

impl Trainer {
    fn core(&self) -> MutexGuard<'_, Core> {
        // A panic in a step leaves numbers behind that are wrong, but not undefined.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The trainer, if no other thread uses it.
    fn only(&self) -> PyResult<MutexGuard<'_, Core>> {
        match self.core.try_lock() {
            Ok(core) => Ok(core),
            Err(std::sync::TryLockError::Poisoned(error)) => Ok(error.into_inner()),
            Err(std::sync::TryLockError::WouldBlock) => Err(PyRuntimeError::new_err(
                "trainer: another thread is using it",
            )),
        }
    }
}

#[pymethods]
impl Trainer {
    #[new]
    #[pyo3(signature = (
        tensors, config, *, origin, isa=None, threads=None, winograd=true, precision="f32",
        norm_momentum=0.1
    ))]
    #[allow(clippy::too_many_arguments)] // They are keywords in Python.
    fn new(
        py: Python<'_>,
        tensors: &Bound<'_, PyAny>,
        config: &str,
        origin: &str,
        isa: Option<&str>,
        threads: Option<isize>,
        winograd: bool,
        precision: &str,
        norm_momentum: f64,
    ) -> PyResult<Self> {
        let threads = super::network::positive(threads)?;
        let options = TrainOptions {
            isa: Some(Isa::resolve(isa.map(str::parse::<Isa>).transpose()?)?),
            threads: Some(resolve_threads(threads)?),
            winograd,
            precision: precision.parse()?,
            norm_momentum,
        };
        let path = Path::new(origin);
        let config = Config::parse(config.as_bytes(), path)?;
        let arrays = Arrays::new(tensors)?;
        let tensors = Tensors::new(path, arrays.entries()?);
        let core = py.detach(|| Core::new(config, &tensors, &options))?;
        Ok(Self {
            core: Mutex::new(core),
        })
    }

    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        super::network::config_fields(py, self.core().config())
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.core().isa().name()
    }

    #[getter]
    fn precision(&self) -> &'static str {
        self.core().precision().name()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.core().threads()
    }

    #[getter]
    fn num_classes(&self) -> usize {
        self.core().num_classes()
    }

    #[getter]
    fn in_channels(&self) -> usize {
        self.core().in_channels()
    }

    #[getter]
    fn arena_bytes(&self) -> usize {
        self.core().arena_bytes()
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>, bool)> {
        let core = self.core();
        core.tensors()
            .map(|(name, shape, is_statistic)| (name.into(), shape.into(), is_statistic))
            .collect()
    }

    #[pyo3(signature = (x, targets, *, accumulate=false, threads=None))]
    fn backward(
        &self,
        py: Python<'_>,
        x: PyReadonlyArray4<'_, f32>,
        targets: PyReadonlyArray2<'_, f32>,
        accumulate: bool,
        threads: Option<isize>,
    ) -> PyResult<(Vec<f64>, Vec<usize>)> {
        let mut core = self.only()?;
        let shape = batch_shape(&x, core.in_channels())?;
        let (images, targets) = (x.as_slice()?, targets.as_slice()?);
        let trainer = &mut *core;
        let outcome = interruptible(py, super::network::positive(threads)?, |call| {
            trainer.backward(call, images, targets, shape, accumulate)
        })?;
        Ok((outcome.losses, outcome.predictions))
    }

    #[pyo3(signature = (x, targets, *, threads=None))]
    fn profile(
        &self,
        py: Python<'_>,
        x: PyReadonlyArray4<'_, f32>,
        targets: PyReadonlyArray2<'_, f32>,
        threads: Option<isize>,
    ) -> PyResult<Vec<f64>> {
        let mut core = self.only()?;
        let shape = batch_shape(&x, core.in_channels())?;
        let (images, targets) = (x.as_slice()?, targets.as_slice()?);
        let trainer = &mut *core;
        interruptible(py, super::network::positive(threads)?, |call| {
            trainer.profile(call, images, targets, shape)
        })
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        kind: &str,
        name: &str,
    ) -> PyResult<Option<Bound<'py, PyArrayDyn<f32>>>> {
        let core = self.only()?;
        let Some(values) = core.read(set(kind)?, name) else {
            return Ok(None);
        };
        let shape = core
            .tensors()
            .find_map(|(found, shape, _)| (found == name).then(|| shape.to_vec()));
        let array = PyArray::from_vec(py, values);
        Ok(Some(array.reshape(shape.unwrap_or_default())?))
    }

    fn write(&self, kind: &str, name: &str, values: &Bound<'_, PyArrayDyn<f32>>) -> PyResult<()> {
        let values = values.try_readonly()?;
        self.only()?.write(set(kind)?, name, values.as_slice()?)?;
        Ok(())
    }

    #[pyo3(signature = (
        *, lr, method="sgd", momentum=0.9, nesterov=false, beta1=0.9, beta2=0.999, eps=1e-8,
        weight_decay=0.0, clip_norm=None, average=None, threads=None
    ))]
    #[allow(clippy::too_many_arguments)] // They are keywords in Python.
    fn update(
        &self,
        py: Python<'_>,
        lr: f64,
        method: &str,
        momentum: f64,
        nesterov: bool,
        beta1: f64,
        beta2: f64,
        eps: f64,
        weight_decay: f64,
        clip_norm: Option<f64>,
        average: Option<f64>,
        threads: Option<isize>,
    ) -> PyResult<Option<f64>> {
        let method = match method {
            "sgd" => Method::Sgd { momentum, nesterov },
            "adamw" => Method::AdamW { beta1, beta2, eps },
            _ => {
                return Err(PyValueError::new_err(format!(
                    "method: expected sgd or adamw, found {method:?}"
                )));
            }
        };
        let numbers = Hyperparameters {
            method,
            lr,
            weight_decay,
            clip_norm,
            average,
        };
        let mut core = self.only()?;
        let trainer = &mut *core;
        interruptible(py, super::network::positive(threads)?, |call| {
            trainer.update(call, &numbers)
        })
    }

    fn set_groups(&self, groups: Vec<(String, f64, bool)>) -> PyResult<()> {
        let group = |(name, lr_scale, decays)| (name, Group { lr_scale, decays });
        let groups: Vec<_> = groups.into_iter().map(group).collect();
        Ok(self.only()?.set_groups(&groups)?)
    }

    #[getter]
    fn steps(&self) -> u64 {
        self.core().steps()
    }

    #[setter]
    fn set_steps(&self, steps: u64) {
        self.core().set_steps(steps);
    }

    fn freeze(&self, names: HashSet<String>) -> PyResult<()> {
        Ok(self.only()?.freeze(&names)?)
    }

    #[pyo3(signature = (batch, height, width, *, threads=None))]
    fn plan<'py>(
        &self,
        py: Python<'py>,
        batch: usize,
        height: usize,
        width: usize,
        threads: Option<isize>,
    ) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let mut core = self.only()?;
        let threads = super::network::positive(threads)?.unwrap_or(core.threads());
        let shape = Shape {
            batch,
            height,
            width,
        };
        let plan = core.plan_of(shape, threads)?;
        plan.steps
            .iter()
            .map(|planned| {
                let entry = PyDict::new(py);
                entry.set_item("name", &planned.name)?;
                entry.set_item("operation", planned.step.operation())?;
                entry.set_item("backward", planned.is_backward)?;
                entry.set_item("macs", planned.step.macs())?;
                entry.set_item("items", planned.step.items())?;
                Ok(entry)
            })
            .collect()
    }
}
