//! The Python extension module `resnet_rs._core`: the only file that knows of Python.
//!
//! Its contract is python/resnet_rs/_core.pyi.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use half::f16;
use numpy::{
    Element, PyArray, PyArray1, PyArray2, PyArray4, PyArrayDescrMethods, PyArrayDyn,
    PyArrayMethods, PyReadonlyArray2, PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods,
    dtype,
};
use pyo3::create_exception;
use pyo3::exceptions::{PyMemoryError, PyOSError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::classify;
use crate::error::Error;
use crate::kernels::isa::cpu_features as features;
use crate::kernels::{KernelTable, peak};
use crate::network::config::Config;
use crate::network::fuse::{fuse, fused_into};
use crate::network::layer::Layer;
use crate::network::operations::{Kind, Operation, output_shapes};
use crate::network::weights::{self, Dtype, Entry, Tensors, WeightsFile};
use crate::network::{Activation, Head, Images, Network as Core, Options, family, head_side};
use crate::plan::Shape;
use crate::{Isa, text, threads};

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
    fn new(x: &Bound<'py, PyAny>, channels: usize) -> PyResult<(Self, Shape)> {
        let array = x.cast::<PyUntypedArray>().map_err(|_| {
            let found = x.get_type();
            PyTypeError::new_err(format!("x: expected a numpy array, found {found}"))
        })?;
        let shape = match *array.shape() {
            [batch, height, width, last] if last == channels => Shape {
                batch,
                height,
                width,
            },
            ref other => {
                let hint = if matches!(other, [_, second, _, _] if *second == channels) {
                    ": NCHW? use x.transpose(0, 2, 3, 1)"
                } else {
                    ""
                };
                return Err(PyValueError::new_err(format!(
                    "x: expected shape [batch, height, width, {channels}], found {other:?}{hint}"
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

/// A whole number from 1 up, for an argument that is called `threads`.
fn positive(threads: Option<isize>) -> PyResult<Option<usize>> {
    let positive = |n: isize| match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(PyValueError::new_err(format!(
            "threads: expected at least 1, found {n}"
        ))),
    };
    threads.map(positive).transpose()
}

fn options(
    isa: Option<&str>,
    threads: Option<isize>,
    winograd: bool,
    fused: bool,
) -> PyResult<Options> {
    Ok(Options {
        isa: isa.map(str::parse::<Isa>).transpose()?,
        threads: positive(threads)?,
        winograd,
        fused,
    })
}

impl Network {
    fn forward<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        head: Head,
        threads: Option<isize>,
    ) -> PyResult<Matrix<'py, f32>> {
        let (batch, shape) = Batch::new(x, self.core.in_channels())?;
        let threads = positive(threads)?.unwrap_or(self.core.threads());
        let images = batch.images()?;
        let out = py.detach(|| self.core.forward_on(threads, images, shape, head))?;
        matrix(py, out, [shape.batch, self.core.width(head)])
    }
}

#[pymethods]
impl Network {
    #[new]
    #[pyo3(signature = (weights, *, config=None, isa=None, threads=None, winograd=true, fused=true))]
    fn new(
        py: Python<'_>,
        weights: PathBuf,
        config: Option<&str>,
        isa: Option<&str>,
        threads: Option<isize>,
        winograd: bool,
        fused: bool,
    ) -> PyResult<Self> {
        let options = options(isa, threads, winograd, fused)?;
        let config = config
            .map(|text| Config::parse(text.as_bytes(), &weights))
            .transpose()?;
        let core = py.detach(|| match config {
            Some(config) => Core::load_with(&weights, config, &options),
            None => Core::load(&weights, &options),
        })?;
        Ok(Self { core })
    }

    #[staticmethod]
    #[pyo3(signature = (
        tensors, config, *, origin, isa=None, threads=None, winograd=true, fused=true
    ))]
    #[allow(clippy::too_many_arguments)] // They are keywords in Python.
    fn from_tensors(
        py: Python<'_>,
        tensors: &Bound<'_, PyAny>,
        config: &str,
        origin: &str,
        isa: Option<&str>,
        threads: Option<isize>,
        winograd: bool,
        fused: bool,
    ) -> PyResult<Self> {
        let options = options(isa, threads, winograd, fused)?;
        let path = Path::new(origin);
        let config = Config::parse(config.as_bytes(), path)?;
        let arrays = Arrays::new(tensors)?;
        let tensors = Tensors::new(path, arrays.entries()?);
        let core = py.detach(|| Core::new(config, &tensors, &options))?;
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
    fn in_channels(&self) -> usize {
        self.core.in_channels()
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

    #[getter]
    fn layer_names(&self) -> Vec<String> {
        let name = |layer: &Layer| layer.name.clone();
        self.core.layers().iter().map(name).collect()
    }

    #[pyo3(signature = (x, *, threads=None))]
    fn logits<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        threads: Option<isize>,
    ) -> PyResult<Matrix<'py, f32>> {
        self.forward(py, x, Head::Logits, threads)
    }

    #[pyo3(signature = (x, *, threads=None))]
    fn embed<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        threads: Option<isize>,
    ) -> PyResult<Matrix<'py, f32>> {
        self.forward(py, x, Head::Embedding, threads)
    }

    #[pyo3(signature = (x, names, *, threads=None))]
    fn features<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        names: Vec<String>,
        threads: Option<isize>,
    ) -> PyResult<Vec<Bound<'py, PyArray4<f32>>>> {
        let (batch, shape) = Batch::new(x, self.core.in_channels())?;
        let images = batch.images()?;
        let places = names
            .iter()
            .map(|name| self.layer(name))
            .collect::<PyResult<Vec<_>>>()?;
        let mut ordered = places.clone();
        ordered.sort_unstable();
        ordered.dedup();
        let threads = positive(threads)?.unwrap_or(self.core.threads());
        let maps = py.detach(|| self.core.features(threads, images, shape, &ordered))?;
        let maps = maps
            .into_iter()
            .map(|(_, shape, data)| PyArray::from_vec(py, data).reshape(shape))
            .collect::<PyResult<Vec<_>>>()?;
        if maps.is_empty() {
            // An empty batch, or no names.
            let empty = |_| PyArray::from_vec(py, Vec::new()).reshape([0, 0, 0, 0]);
            return places.iter().map(empty).collect();
        }
        let map = |place| maps[ordered.partition_point(|other| other < place)].clone();
        Ok(places.iter().map(map).collect())
    }

    fn activations<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<(String, Bound<'py, PyArray4<f32>>)>> {
        let (batch, shape) = Batch::new(x, self.core.in_channels())?;
        let images = batch.images()?;
        let activations = py.detach(|| self.core.activations(images, shape))?;
        activations
            .into_iter()
            .map(|(name, shape, data): Activation| {
                Ok((name, PyArray::from_vec(py, data).reshape(shape)?))
            })
            .collect()
    }

    fn operations<'py>(
        &self,
        py: Python<'py>,
        height: usize,
        width: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let image = [height, width, self.core.in_channels()];
        operation_list(py, self.core.operations(), image)
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
        let (batch, shape) = Batch::new(x, self.core.in_channels())?;
        let images = batch.images()?;
        Ok(py.detach(|| self.core.profile(images, shape))?)
    }

    fn reference_logits(&self, py: Python<'_>, x: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
        let (batch, shape) = Batch::new(x, self.core.in_channels())?;
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
        let channels = self.core.in_channels();
        let (batch, shape) = Batch::new(pixels, channels)?;
        let Images::U8(pixels) = batch.images()? else {
            return Err(PyTypeError::new_err(
                "pixels: expected uint8, found float32",
            ));
        };
        let mut out = vec![0.0; pixels.len()];
        py.detach(|| self.core.normalize(pixels, &mut out))?;
        PyArray::from_vec(py, out).reshape([shape.batch, shape.height, shape.width, channels])
    }

    fn release(&self, py: Python<'_>) {
        py.detach(|| self.core.release());
    }
}

impl Network {
    /// The place of layer `name`; a stage's name stands for its last block.
    fn layer(&self, name: &str) -> PyResult<usize> {
        let layers = self.core.layers();
        let is_it = |layer: &Layer| layer.name == name;
        let of_stage = |layer: &Layer| {
            let block = layer
                .name
                .strip_prefix(name)
                .and_then(|b| b.strip_prefix('.'));
            block
                .is_some_and(|block| !block.is_empty() && block.bytes().all(|b| b.is_ascii_digit()))
        };
        layers
            .iter()
            .position(is_it)
            .or_else(|| layers.iter().rposition(of_stage))
            .ok_or_else(|| {
                let known: Vec<_> = layers.iter().map(|layer| layer.name.as_str()).collect();
                PyValueError::new_err(format!(
                    "names: expected layers of this network ({}), found {name:?}",
                    known.join(", ")
                ))
            })
    }
}

/// Tensors of the caller's, borrowed from numpy.
struct Arrays<'py>(Vec<(String, Array<'py>)>);

enum Array<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
}

impl<'py> Arrays<'py> {
    /// Of a mapping from names to float32 and float16 arrays.
    fn new(tensors: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut arrays = Vec::new();
        for item in tensors.call_method0("items")?.try_iter()? {
            let (name, value): (String, Bound<'py, PyAny>) = item?.extract()?;
            let wrong = |found: String| {
                PyTypeError::new_err(format!(
                    "tensor {name}: expected a C-contiguous float32 or float16 array, found {found}"
                ))
            };
            let array = if let Ok(array) = value.cast::<PyArrayDyn<f32>>() {
                Array::F32(array.try_readonly()?)
            } else if let Ok(array) = value.cast::<PyArrayDyn<f16>>() {
                Array::F16(array.try_readonly()?)
            } else if let Ok(array) = value.cast::<PyUntypedArray>() {
                return Err(wrong(format!("type {}", array.dtype())));
            } else {
                return Err(wrong(value.get_type().to_string()));
            };
            let contiguous = match &array {
                Array::F32(array) => array.is_c_contiguous(),
                Array::F16(array) => array.is_c_contiguous(),
            };
            if !contiguous {
                return Err(wrong("one with other strides".into()));
            }
            arrays.push((name, array));
        }
        Ok(Self(arrays))
    }

    fn entries(&self) -> PyResult<HashMap<String, Entry<'_>>> {
        let mut entries = HashMap::new();
        for (name, array) in &self.0 {
            let (dtype, shape, data) = match array {
                Array::F32(array) => (
                    Dtype::F32,
                    array.shape(),
                    bytemuck::cast_slice(array.as_slice()?),
                ),
                Array::F16(array) => (
                    Dtype::F16,
                    array.shape(),
                    bytemuck::cast_slice(array.as_slice()?),
                ),
            };
            let shape = shape.to_vec();
            entries.insert(name.clone(), Entry { dtype, shape, data });
        }
        Ok(entries)
    }
}

fn operation_list<'py>(
    py: Python<'py>,
    operations: &[Operation],
    image: [usize; 3],
) -> PyResult<Bound<'py, PyList>> {
    if image.contains(&0) {
        return Err(PyValueError::new_err(
            "height and width: expected at least 1, found 0",
        ));
    }
    let shapes = output_shapes(operations, image);
    let fused_into = fused_into(operations, &fuse(operations, true));
    let list = PyList::empty(py);
    for (i, operation) in operations.iter().enumerate() {
        let entry = PyDict::new(py);
        entry.set_item("name", &operation.name)?;
        let inputs = operation.inputs.iter().map(|&id| match id {
            0 => "image",
            id => operations[id - 1].name.as_str(),
        });
        entry.set_item("inputs", inputs.collect::<Vec<_>>())?;
        let [height, width, channels] = shapes[i + 1];
        entry.set_item("output_shape", (height, width, channels))?;
        entry.set_item("fused_into", &fused_into[i])?;
        let parameters = PyDict::new(py);
        for (part, shape) in operation.parameters() {
            let name = format!("{}.{part}", operation.name);
            parameters.set_item(part, (name, PyTuple::new(py, shape)?))?;
        }
        entry.set_item("parameters", parameters)?;
        let number = |key: &str, value: usize| entry.set_item(key, value);
        let kind = match operation.kind {
            Kind::Conv(ref conv) => {
                number("in_channels", conv.in_channels)?;
                number("out_channels", conv.out_channels)?;
                number("kernel", conv.kernel)?;
                number("stride", conv.stride)?;
                number("padding", conv.padding)?;
                number("groups", conv.groups)?;
                entry.set_item("bias", conv.bias)?;
                "conv"
            }
            Kind::BatchNorm { channels, epsilon } => {
                number("channels", channels)?;
                entry.set_item("epsilon", epsilon)?;
                "batch_norm"
            }
            Kind::Relu => "relu",
            Kind::Add => "add",
            Kind::MaxPool => {
                number("kernel", 3)?;
                number("stride", 2)?;
                number("padding", 1)?;
                "max_pool"
            }
            Kind::AvgPool(window) => {
                number("kernel", window.kernel)?;
                number("stride", window.stride)?;
                number("padding", window.padding)?;
                entry.set_item("ceil_mode", window.ceil_mode)?;
                entry.set_item("count_include_pad", window.count_include_pad)?;
                "avg_pool"
            }
            Kind::GlobalAvgPool => "global_avg_pool",
            Kind::Linear {
                channels,
                side,
                classes,
            } => {
                number("in_features", channels * side * side)?;
                number("out_features", classes)?;
                "linear"
            }
        };
        entry.set_item("kind", kind)?;
        list.append(entry)?;
    }
    Ok(list)
}

/// The operations of the network that a config describes.
#[pyfunction]
fn operations<'py>(
    py: Python<'py>,
    config: &str,
    height: usize,
    width: usize,
) -> PyResult<Bound<'py, PyList>> {
    const IMAGENET: usize = 1000;
    let config = Config::parse(config.as_bytes(), Path::new("config"))?;
    let architecture = config.architecture().map_err(PyValueError::new_err)?;
    let (side, _) =
        head_side(&architecture, &config.preprocessing).map_err(PyValueError::new_err)?;
    let labels = config.labels.as_ref().map(Vec::len);
    let classes = config.num_classes.or(labels).unwrap_or(IMAGENET);
    let operations = architecture.operations(classes, side);
    operation_list(py, &operations, [height, width, architecture.in_channels])
}

/// The names that a config's `architecture` may have.
#[pyfunction]
fn architectures() -> Vec<&'static str> {
    family::names().collect()
}

/// A safetensors file's tensors: name to type, shape, first byte and end.
#[pyfunction]
fn safetensors_index<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
    let file = WeightsFile::open(&path)?;
    let tensors = file.tensors()?;
    let mut entries: Vec<_> = tensors.entries().collect();
    entries.sort_unstable_by_key(|(name, entry)| (file.range(entry.data).start, *name));
    let index = PyDict::new(py);
    for (name, entry) in entries {
        let place = file.range(entry.data);
        let shape = PyTuple::new(py, &entry.shape)?;
        let dtype = format!("{:?}", entry.dtype);
        index.set_item(name, (dtype, shape, place.start, place.end))?;
    }
    Ok(index)
}

/// Writes a safetensors file.
#[pyfunction]
fn write_safetensors(
    py: Python<'_>,
    path: PathBuf,
    tensors: &Bound<'_, PyAny>,
    metadata: HashMap<String, String>,
) -> PyResult<()> {
    let arrays = Arrays::new(tensors)?;
    let entries = arrays.entries()?;
    Ok(py.detach(|| weights::write(&path, &entries, metadata))?)
}

/// The numbers of a text file, as float32.
#[pyfunction]
fn read_numbers(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyArray1<f32>>> {
    let numbers = py.detach(|| text::read_numbers(&path))?;
    Ok(PyArray::from_vec(py, numbers))
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
    module.add_function(wrap_pyfunction!(architectures, module)?)?;
    module.add_function(wrap_pyfunction!(operations, module)?)?;
    module.add_function(wrap_pyfunction!(safetensors_index, module)?)?;
    module.add_function(wrap_pyfunction!(write_safetensors, module)?)?;
    module.add_function(wrap_pyfunction!(read_numbers, module)?)?;
    module.add_function(wrap_pyfunction!(softmax_top_k, module)?)?;
    module.add_function(wrap_pyfunction!(cpu_features, module)?)?;
    module.add_function(wrap_pyfunction!(available_isas, module)?)?;
    module.add_function(wrap_pyfunction!(default_threads, module)?)?;
    module.add_function(wrap_pyfunction!(peak_macs_per_second, module)?)?;
    Ok(())
}
