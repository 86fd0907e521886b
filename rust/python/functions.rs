//! The functions that need no network.

use std::collections::HashMap;
use std::path::PathBuf;

use numpy::{PyArray, PyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::arrays::{Arrays, Matrix, matrix};
use super::errors::UnsupportedIsaError;
use crate::classify;
use crate::dtype::Dtype;
use crate::graph::family;
use crate::graph::output_function::OutputFunction;
use crate::kernels::KernelTable;
use crate::memory::{room, text};
use crate::simd::{Features, Isa};
use crate::threads;
use crate::weights::{self, Precision, WeightsFile};

/// The values that `architecture` may have in config.json.
#[pyfunction]
pub fn architectures() -> Vec<&'static str> {
    family::names().collect()
}

/// A safetensors file's tensors: name to type, shape, first byte and end.
#[pyfunction]
pub fn safetensors_index<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
    let file = WeightsFile::open(&path)?;
    let mut entries: Vec<_> = file.entries()?.into_iter().collect();
    entries.sort_unstable_by(|(a, x), (b, y)| (x.data.start, a).cmp(&(y.data.start, b)));
    let index = PyDict::new(py);
    for (name, entry) in entries {
        let place = entry.data;
        let shape = PyTuple::new(py, &entry.shape)?;
        let dtype = format!("{:?}", entry.dtype);
        index.set_item(name, (dtype, shape, place.start, place.end))?;
    }
    Ok(index)
}

/// Writes a safetensors file.
#[pyfunction]
pub fn write_safetensors(
    py: Python<'_>,
    path: PathBuf,
    tensors: &Bound<'_, PyAny>,
    metadata: HashMap<String, String>,
) -> PyResult<()> {
    let arrays = Arrays::new(tensors)?;
    let entries = arrays.entries()?;
    Ok(py.detach(|| weights::write_safetensors(&path, &entries, metadata))?)
}

/// The numbers of a text file, as float32.
#[pyfunction]
pub fn read_numbers(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyArray1<f32>>> {
    let numbers = py.detach(|| text::read_numbers(&path))?;
    Ok(PyArray::from_vec(py, numbers))
}

/// Scores of the k best classes, best first, and their indices.
#[pyfunction]
pub fn top_k<'py>(
    py: Python<'py>,
    logits: PyReadonlyArray2<'py, f32>,
    k: usize,
    activation: &str,
) -> PyResult<(Matrix<'py, f32>, Matrix<'py, i64>)> {
    let &[batch, classes] = logits.shape() else {
        return Err(PyValueError::new_err("logits: expected two dimensions"));
    };
    let function: OutputFunction = activation.parse()?;
    let k = k.min(classes);
    let (mut scores, mut indices) = (Vec::new(), Vec::new());
    room::reserve(&mut scores, batch * k, "scores")?;
    room::reserve(&mut indices, batch * k, "indices")?;
    room::check(32 * classes + room::SMALL, "scores")?;
    for row in logits.as_slice()?.chunks_exact(classes.max(1)) {
        for scored in classify::top_k(row, k, function) {
            scores.push(scored.score);
            indices.push(scored.index as i64);
        }
    }
    Ok((
        matrix(py, scores, [batch, k])?,
        matrix(py, indices, [batch, k])?,
    ))
}

/// The processor's features that kernels may be chosen by, those that this machine has.
#[pyfunction]
pub fn cpu_features() -> Vec<&'static str> {
    Features::detect().names().collect()
}

/// The tiers that this machine can run, slowest first.
#[pyfunction]
pub fn available_isas() -> Vec<&'static str> {
    Isa::available().map(Isa::name).collect()
}

/// Multiply-accumulates a second that one thread can do in registers with a tier's instructions.
#[pyfunction]
#[pyo3(signature = (isa, precision="f32"))]
pub fn peak_macs_per_second(py: Python<'_>, isa: &str, precision: &str) -> PyResult<f64> {
    let isa = Isa::resolve(Some(isa.parse()?))?;
    let table = KernelTable::new(isa, Features::detect())
        .ok_or_else(|| UnsupportedIsaError::new_err(format!("this machine has no {isa}")))?;
    let dtype = match precision.parse()? {
        Precision::F32 => Dtype::F32,
        Precision::Bf16 => Dtype::Bf16,
        Precision::Int8 => table.int8,
    };
    Ok(py.detach(|| table.peak(dtype).measure()))
}

/// The number of threads that a model made now without `threads=` would use.
#[pyfunction]
pub fn default_threads() -> PyResult<usize> {
    Ok(threads::default_threads()?)
}

#[pyfunction]
#[pyo3(signature = (root = PathBuf::from("/")))]
#[expect(
    clippy::needless_pass_by_value,
    reason = "arguments from Python are values"
)]
pub fn cgroup_quota(root: PathBuf) -> Option<f64> {
    threads::cgroup_quota(&root)
}
