//! A network's operations as Python lists and dicts.

use std::path::Path;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::graph::config::Config;
use crate::graph::fuse::{Fusion, fuse, fused_into};
use crate::graph::head::head_side;
use crate::graph::operations::{Kind, Operation, output_shapes};
use crate::shape::{PoolWindow, Shape};
use crate::weights::Precision;

/// The list of operations that Python gets, for images of `[height, width, channels]`.
pub fn operation_list<'py>(
    py: Python<'py>,
    operations: &[Operation],
    image: [usize; 3],
    precision: Precision,
) -> PyResult<Bound<'py, PyList>> {
    let shape = Shape {
        batch: 1,
        height: image[0],
        width: image[1],
    };
    shape.check_sides()?;
    let shapes = output_shapes(operations, image);
    let fusion = match precision {
        Precision::F32 => Fusion::ForF32,
        Precision::Bf16 | Precision::Int8 => Fusion::WithShortcuts,
    };
    let fused_into = fused_into(operations, &fuse(operations, fusion));
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
                number("dilation", conv.dilation)?;
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
            Kind::MaxPool(Some(window)) => {
                set_window(&entry, window)?;
                "max_pool"
            }
            Kind::MaxPool(None) => "global_max_pool",
            Kind::AvgPool(Some(window)) => {
                set_window(&entry, window)?;
                entry.set_item("count_include_pad", window.count_include_pad)?;
                "avg_pool"
            }
            Kind::AvgPool(None) => "global_avg_pool",
            Kind::Pad(pad) => {
                number("kernel", pad.window.kernel)?;
                number("stride", pad.window.stride)?;
                number("before", pad.before)?;
                number("after", pad.after)?;
                "pad"
            }
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

/// The numbers of a pool's window.
fn set_window(entry: &Bound<'_, PyDict>, window: PoolWindow) -> PyResult<()> {
    for (key, value) in [
        ("kernel", window.kernel),
        ("stride", window.stride),
        ("padding", window.padding),
        ("extra", window.extra),
    ] {
        entry.set_item(key, value)?;
    }
    entry.set_item("ceil_mode", window.ceil_mode)
}

/// The operations of the network that a config describes.
#[pyfunction]
pub fn operations<'py>(
    py: Python<'py>,
    config: &str,
    height: usize,
    width: usize,
) -> PyResult<Bound<'py, PyList>> {
    const IMAGENET: usize = 1000;
    let config = Config::parse(config.as_bytes(), Path::new("config"))?;
    let architecture = config.architecture()?;
    let (side, _) = head_side(&architecture, &config.preprocessing)?;
    let labels = config.labels.as_ref().map(Vec::len);
    let classes = config.num_classes.or(labels).unwrap_or(IMAGENET);
    let operations = architecture.operations(classes, side);
    let image = [height, width, architecture.in_channels];
    operation_list(py, &operations, image, Precision::F32)
}
