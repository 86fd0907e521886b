//! The class `Network`.

use std::path::{Path, PathBuf};

use numpy::{PyArray, PyArray1, PyArray4, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::arrays::{Arrays, Batch, Matrix, matrix};
use super::json::object;
use super::operations::operation_list;
use super::signals::interruptible;
use crate::graph::config::Config;
use crate::graph::layer::Layer;
use crate::infer::{Activation, Head, Images, Network as Core, Options, Statistics, kernel_name};
use crate::memory::room;
use crate::plan::PlannedStep;
use crate::shape::Shape;
use crate::simd::Isa;
use crate::weights::{Precision, Tensors};

/// A tensor's name, largest value, counts by bin, and the sum of each channel.
type Distribution<'py> = (
    String,
    f32,
    Bound<'py, PyArray1<u64>>,
    Bound<'py, PyArray1<f64>>,
);

/// A loaded and packed network.
#[pyclass(frozen, module = "resnet_rs._core")]
pub struct Network {
    core: Core,
}

/// A whole number from 1 up, for an argument that is called `threads`.
pub(super) fn positive(threads: Option<isize>) -> PyResult<Option<usize>> {
    let positive = |n: isize| match usize::try_from(n) {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(PyValueError::new_err(format!(
            "threads: expected at least 1, found {n}"
        ))),
    };
    threads.map(positive).transpose()
}

/// The fields of config.json.
pub(super) fn config_fields<'py>(py: Python<'py>, config: &Config) -> PyResult<Bound<'py, PyAny>> {
    let fields = serde_json::to_value(config);
    object(
        py,
        &fields.map_err(|e| PyValueError::new_err(e.to_string()))?,
    )
}

/// The options of a call, environment variables included. They are read here, while the caller holds the
/// interpreter's lock and so no other thread of Python can change them.
fn options(
    isa: Option<&str>,
    threads: Option<isize>,
    winograd: bool,
    fused: bool,
    precision: Option<&str>,
    strict: bool,
) -> PyResult<Options> {
    let options = Options {
        isa: isa.map(str::parse::<Isa>).transpose()?,
        threads: positive(threads)?,
        winograd,
        fused,
        precision: precision.map(str::parse::<Precision>).transpose()?,
        strict,
    };
    Ok(options.resolve()?)
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
        let images = batch.images()?;
        let out = interruptible(py, positive(threads)?, |call| {
            self.core.forward_on(call, images, shape, head)
        })?;
        matrix(py, out, [shape.batch, self.core.width(head)])
    }
}

#[pymethods]
impl Network {
    #[new]
    #[pyo3(signature = (
        weights, *, config=None, isa=None, threads=None, winograd=true, fused=true, precision=None,
        strict=false
    ))]
    #[allow(clippy::too_many_arguments)] // They are keywords in Python.
    fn new(
        py: Python<'_>,
        weights: PathBuf,
        config: Option<&str>,
        isa: Option<&str>,
        threads: Option<isize>,
        winograd: bool,
        fused: bool,
        precision: Option<&str>,
        strict: bool,
    ) -> PyResult<Self> {
        let options = options(isa, threads, winograd, fused, precision, strict)?;
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
        tensors, config, *, origin, isa=None, threads=None, winograd=true, fused=true, precision=None,
        strict=false
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
        precision: Option<&str>,
        strict: bool,
    ) -> PyResult<Self> {
        let options = options(isa, threads, winograd, fused, precision, strict)?;
        let path = Path::new(origin);
        let config = Config::parse(config.as_bytes(), path)?;
        let arrays = Arrays::new(tensors)?;
        let tensors = Tensors::new(path, arrays.entries()?);
        let core = py.detach(|| Core::new(config, &tensors, &options))?;
        Ok(Self { core })
    }

    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        config_fields(py, self.core.config())
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
    fn precision(&self) -> &'static str {
        self.core.precision().name()
    }

    #[getter]
    fn remark(&self) -> Option<&str> {
        self.core.remark()
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
        self.core.layers().map(name).collect()
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
        let maps = interruptible(py, positive(threads)?, |call| {
            self.core.features(call, images, shape, &ordered)
        })?;
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
        let all: Vec<usize> = (0..self.core.layers().count()).collect();
        let activations = interruptible(py, None, |call| {
            self.core.features(call, images, shape, &all)
        })?;
        activations
            .into_iter()
            .map(|(name, shape, data): Activation| {
                Ok((name, PyArray::from_vec(py, data).reshape(shape)?))
            })
            .collect()
    }

    #[pyo3(signature = (x, *, threads=None))]
    fn statistics<'py>(
        &self,
        py: Python<'py>,
        x: &Bound<'py, PyAny>,
        threads: Option<isize>,
    ) -> PyResult<Vec<Distribution<'py>>> {
        let (batch, shape) = Batch::new(x, self.core.in_channels())?;
        let images = batch.images()?;
        let statistics = interruptible(py, positive(threads)?, |call| {
            self.core.statistics(call, images, shape)
        })?;
        let arrays = |s: Statistics| {
            let (counts, sums) = (
                PyArray::from_vec(py, s.counts),
                PyArray::from_vec(py, s.sums),
            );
            (s.name, s.max, counts, sums)
        };
        Ok(statistics.into_iter().map(arrays).collect())
    }

    fn operations<'py>(
        &self,
        py: Python<'py>,
        height: usize,
        width: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let image = [height, width, self.core.in_channels()];
        operation_list(py, self.core.operations(), image, self.core.precision())
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
        self.steps(py, &plan.steps)
    }

    fn schedule<'py>(
        &self,
        py: Python<'py>,
        batch: usize,
        height: usize,
        width: usize,
        threads: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let shape = Shape {
            batch,
            height,
            width,
        };
        let segments = PyList::empty(py);
        for plan in self.core.forward_plans(shape, threads)? {
            for segment in &plan.segments {
                let tracks = segment.tracks.iter().cloned();
                let tracks = tracks.map(|steps| self.steps(py, &plan.steps[steps]));
                segments.append(tracks.collect::<PyResult<Vec<_>>>()?)?;
            }
        }
        Ok(segments)
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
        let mut out = Vec::new();
        room::reserve(&mut out, pixels.len(), "normalised pixels")?;
        out.resize(pixels.len(), 0.0);
        py.detach(|| self.core.normalize(pixels, &mut out))?;
        PyArray::from_vec(py, out).reshape([shape.batch, shape.height, shape.width, channels])
    }

    fn release(&self, py: Python<'_>) {
        py.detach(|| self.core.release());
    }
}

impl Network {
    /// Describes steps, a dict for each.
    fn steps<'py>(&self, py: Python<'py>, planned: &[PlannedStep]) -> PyResult<Bound<'py, PyList>> {
        let steps = PyList::empty(py);
        for PlannedStep { name, step, .. } in planned {
            let entry = PyDict::new(py);
            entry.set_item("name", name)?;
            entry.set_item("algorithm", step.algorithm())?;
            entry.set_item("precision", step.dtype().precision())?;
            entry.set_item("kernel", kernel_name(step, self.core.kernels()))?;
            let [batch, height, width, channels] = step.output_shape();
            entry.set_item("output_shape", (batch, height, width, channels))?;
            entry.set_item("macs", step.macs())?;
            entry.set_item("items", step.items())?;
            steps.append(entry)?;
        }
        Ok(steps)
    }

    /// The place of layer `name`; a stage's name stands for its last block.
    fn layer(&self, name: &str) -> PyResult<usize> {
        let layers: Vec<_> = self.core.layers().collect();
        let is_named = |layer: &&Layer| layer.name == name;
        let of_stage = |layer: &&Layer| {
            let block = layer
                .name
                .strip_prefix(name)
                .and_then(|b| b.strip_prefix('.'));
            block
                .is_some_and(|block| !block.is_empty() && block.bytes().all(|b| b.is_ascii_digit()))
        };
        layers
            .iter()
            .position(is_named)
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
