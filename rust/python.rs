//! The Python extension module `resnet_rs._core`: the only file that knows of Python.
//!
//! Its contract is python/resnet_rs/_core.pyi.

use std::io;
use std::path::PathBuf;

use numpy::{
    Element, PyArray, PyArray2, PyArray4, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods,
    PyReadonlyArray2, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::create_exception;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::classify;
use crate::error::Error;
use crate::kernels::isa::cpu_features as features;
use crate::kernels::{KernelTable, peak};
use crate::network::{Activation, Head, Images, Network as Core, Options};
use crate::plan::Shape;
use crate::{Isa, threads};

create_exception!(
    resnet_rs._core,
    WeightsError,
    PyValueError,
    "A weights file or its config is malformed: the message names the tensor or field."
);
create_exception!(
    resnet_rs._core,
    UnsupportedIsaError,
    PyRuntimeError,
    "The instruction set that was asked for is not on this machine."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            // With errno and file name Python makes FileNotFoundError and its like of it.
            Error::Io { path, source } => match errno(&source) {
                Some(errno) => {
                    let text = source.to_string();
                    let text = text.split(" (os error").next().unwrap_or_default();
                    PyOSError::new_err((
                        errno,
                        text.to_owned(),
                        path.to_string_lossy().into_owned(),
                    ))
                }
                None => PyOSError::new_err(message),
            },
            Error::Weights { .. } => WeightsError::new_err(message),
            Error::Argument(_) => PyValueError::new_err(message),
            Error::UnsupportedIsa(_) => UnsupportedIsaError::new_err(message),
            Error::OutOfMemory(_) => PyMemoryError::new_err(message),
        }
    }
}

fn errno(error: &io::Error) -> Option<i32> {
    const ENOENT: i32 = 2;
    let not_found = error.kind() == io::ErrorKind::NotFound;
    error.raw_os_error().or(not_found.then_some(ENOENT))
}

/// A loaded and packed network.
#[pyclass(frozen, module = "resnet_rs._core")]
struct Network {
    core: Core,
}

/// The images of a call, borrowed from numpy for as long as the forward runs.
enum Batch<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    U8(PyReadonlyArrayDyn<'py, u8>),
}

impl<'py> Batch<'py> {
    fn new(x: &Bound<'py, PyAny>) -> PyResult<(Self, Shape)> {
        let array = x.cast::<PyUntypedArray>().map_err(|_| {
            let found = x.get_type();
            PyTypeError::new_err(format!("x: expected a numpy array, found {found}"))
        })?;
        let shape = match *array.shape() {
            [batch, height, width, 3] => Shape {
                batch,
                height,
                width,
            },
            ref other => {
                let hint = if matches!(other, [_, 3, _, _]) {
                    ": NCHW? use x.transpose(0, 2, 3, 1)"
                } else {
                    ""
                };
                return Err(PyValueError::new_err(format!(
                    "x: expected shape [batch, height, width, 3], found {other:?}{hint}"
                )));
            }
        };
        if !array.is_c_contiguous() {
            return Err(PyValueError::new_err(
                "x: expected a C-contiguous array; use numpy.ascontiguousarray(x)",
            ));
        }
        let py = x.py();
        let kind = array.dtype();
        let batch = if kind.is_equiv_to(&dtype::<f32>(py)) {
            Self::F32(x.cast::<PyArrayDyn<f32>>()?.try_readonly()?)
        } else if kind.is_equiv_to(&dtype::<u8>(py)) {
            Self::U8(x.cast::<PyArrayDyn<u8>>()?.try_readonly()?)
        } else {
            return Err(PyTypeError::new_err(format!(
                "x: expected float32 (normalised) or uint8 (pixels), found {kind}"
            )));
        };
        Ok((batch, shape))
    }

    fn images(&self) -> PyResult<Images<'_>> {
        Ok(match self {
            Self::F32(x) => Images::F32(x.as_slice()?),
            Self::U8(x) => Images::U8(x.as_slice()?),
        })
    }
}

impl Network {
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        head: Head,
    ) -> PyResult<Matrix<'py, f32>> {
        let (batch, shape) = Batch::new(x)?;
        let images = batch.images()?;
        let out = py.detach(|| self.core.forward(images, shape, head))?;
        matrix(py, out, [shape.batch, self.core.width(head)])
    }
}

#[pymethods]
impl Network {
    #[new]
    #[pyo3(signature = (weights, *, isa=None, threads=None, winograd=true))]
    fn new(
        py: Python<'_>,
        weights: PathBuf,
        isa: Option<&str>,
        threads: Option<isize>,
        winograd: bool,
    ) -> PyResult<Self> {
        let isa = isa.map(str::parse::<Isa>).transpose()?;
        let threads = threads
            .map(|n| {
                usize::try_from(n).map_err(|_| {
                    PyValueError::new_err(format!("threads: expected at least 1, found {n}"))
                })
            })
            .transpose()?;
        let options = Options {
            isa,
            threads,
            winograd,
        };
        let core = py.detach(|| Core::load(&weights, &options))?;
        Ok(Self { core })
    }

    #[getter]
    fn config_json(&self) -> PyResult<String> {
        let mut config = self.core.config().clone();
        config.num_classes = Some(self.core.num_classes());
        serde_json::to_string(&config).map_err(|e| PyValueError::new_err(e.to_string()))
    }

    #[getter]
    fn has_config(&self) -> bool {
        self.core.has_config()
    }

    #[getter]
    fn weights_path(&self) -> String {
        self.core.weights_path().to_string_lossy().into_owned()
    }

    #[getter]
    fn isa(&self) -> &'static str {
        self.core.kernels().isa.name()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.core.threads()
    }

    #[getter]
    fn winograd(&self) -> bool {
        self.core.winograd()
    }

    #[getter]
    fn num_classes(&self) -> usize {
        self.core.num_classes()
    }

    #[getter]
    fn embedding_size(&self) -> usize {
        self.core.width(Head::Embedding)
    }

    #[getter]
    fn num_parameters(&self) -> usize {
        self.core.num_parameters()
    }

    fn logits<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Matrix<'py, f32>> {
        self.forward(py, x, Head::Logits)
    }

    fn embed<'py>(&self, py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Matrix<'py, f32>> {
        self.forward(py, x, Head::Embedding)
    }

    fn activations<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<(String, Bound<'py, PyArray4<f32>>)>> {
        let (batch, shape) = Batch::new(x)?;
        let images = batch.images()?;
        let activations = py.detach(|| self.core.activations(images, shape))?;
        activations
            .into_iter()
            .map(|(name, shape, data): Activation| {
                Ok((name, PyArray::from_vec(py, data).reshape(shape)?))
            })
            .collect()
    }

    fn plan<'py>(
        &self,
        py: Python<'py>,
        batch: usize,
        height: usize,
        width: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let shape = Shape {
            batch,
            height,
            width,
        };
        let plan = self.core.plan(shape)?;
        let steps = PyList::empty(py);
        for step in &plan.steps {
            let entry = PyDict::new(py);
            entry.set_item("name", &step.name)?;
            entry.set_item("algorithm", step.step.algorithm())?;
            entry.set_item("kernel", step.step.kernel(self.core.kernels()))?;
            let [batch, height, width, channels] = step.step.output_shape();
            entry.set_item("output_shape", (batch, height, width, channels))?;
            entry.set_item("macs", step.step.macs())?;
            entry.set_item("items", step.step.items())?;
            steps.append(entry)?;
        }
        Ok(steps)
    }

    fn profile(&self, py: Python<'_>, x: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
        let (batch, shape) = Batch::new(x)?;
        let images = batch.images()?;
        Ok(py.detach(|| self.core.profile(images, shape))?)
    }

    fn reference_logits(&self, py: Python<'_>, x: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
        let (batch, shape) = Batch::new(x)?;
        match (batch.images()?, shape.batch) {
            (Images::F32(image), 1) => {
                let sides = [shape.height, shape.width];
                Ok(py.detach(|| self.core.reference_logits(image, sides))?)
            }
            _ => Err(PyValueError::new_err("x: expected one float32 image")),
        }
    }

    fn normalize<'py>(
        &self,
        py: Python<'py>,
        pixels: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyArray4<f32>>> {
        let (batch, shape) = Batch::new(pixels)?;
        let Images::U8(pixels) = batch.images()? else {
            return Err(PyTypeError::new_err(
                "pixels: expected uint8, found float32",
            ));
        };
        let mut out = vec![0.0; pixels.len()];
        py.detach(|| self.core.normalize(pixels, &mut out))?;
        PyArray::from_vec(py, out).reshape([shape.batch, shape.height, shape.width, 3])
    }

    fn release(&self, py: Python<'_>) {
        py.detach(|| self.core.release());
    }
}

/// Softmax scores of the k best classes, best first, and their indices.
#[pyfunction]
fn softmax_top_k<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, f32>,
    k: usize,
) -> PyResult<(Matrix<'py, f32>, Matrix<'py, i64>)> {
    let &[batch, classes] = logits.shape() else {
        return Err(PyValueError::new_err("logits: expected two dimensions"));
    };
    let k = k.min(classes);
    let (mut scores, mut indices) = (Vec::new(), Vec::new());
    for row in logits.as_slice()?.chunks_exact(classes.max(1)) {
        for scored in classify::softmax_top_k(row, k) {
            scores.push(scored.score);
            indices.push(scored.index as i64);
        }
    }
    Ok((
        matrix(py, scores, [batch, k])?,
        matrix(py, indices, [batch, k])?,
    ))
}

type Matrix<'py, T> = Bound<'py, PyArray2<T>>;

fn matrix<T: Element>(py: Python<'_>, data: Vec<T>, shape: [usize; 2]) -> PyResult<Matrix<'_, T>> {
    PyArray::from_vec(py, data).reshape(shape)
}

/// The CPU features that the kernels look at, as far as this machine has them.
#[pyfunction]
fn cpu_features() -> Vec<&'static str> {
    features()
}

/// The tiers that this machine can run, slowest first.
#[pyfunction]
fn available_isas() -> Vec<&'static str> {
    Isa::available().map(Isa::name).collect()
}

/// Multiply-accumulates a second that one thread can do in registers with a tier's instructions.
#[pyfunction]
fn peak_macs_per_second(py: Python<'_>, isa: &str) -> PyResult<f64> {
    let isa = Isa::resolve(Some(isa.parse()?))?;
    let table = KernelTable::new(isa)
        .ok_or_else(|| UnsupportedIsaError::new_err(format!("this machine has no {isa}")))?;
    Ok(py.detach(|| peak::measure(&table)))
}

/// The number of threads that a model made now without `threads=` would use.
#[pyfunction]
fn default_threads() -> PyResult<usize> {
    Ok(threads::default_threads()?)
}

/// The compiled core of resnet_rs (private: use the classes of `resnet_rs`).
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("WeightsError", py.get_type::<WeightsError>())?;
    module.add("UnsupportedIsaError", py.get_type::<UnsupportedIsaError>())?;
    module.add_class::<Network>()?;
    module.add_function(wrap_pyfunction!(softmax_top_k, module)?)?;
    module.add_function(wrap_pyfunction!(cpu_features, module)?)?;
    module.add_function(wrap_pyfunction!(available_isas, module)?)?;
    module.add_function(wrap_pyfunction!(default_threads, module)?)?;
    module.add_function(wrap_pyfunction!(peak_macs_per_second, module)?)?;
    Ok(())
}
