//! The Python extension module `resnet_rs._core`: nothing outside this folder knows of Python.
//!
//! Its contract is python/resnet_rs/_core.pyi.

mod arrays;
mod errors;
mod functions;
mod json;
mod network;
mod operations;
mod signals;
mod trainer;

use pyo3::prelude::*;

use errors::{UnsupportedIsaError, WeightsError};
use network::Network;
use trainer::Trainer;

/// The compiled core of resnet_rs (private: use the classes of `resnet_rs`).
#[pymodule(gil_used = false)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add("WeightsError", py.get_type::<WeightsError>())?;
    module.add("UnsupportedIsaError", py.get_type::<UnsupportedIsaError>())?;
    module.add_class::<Network>()?;
    module.add_class::<Trainer>()?;
    module.add_function(wrap_pyfunction!(functions::architectures, module)?)?;
    module.add_function(wrap_pyfunction!(operations::operations, module)?)?;
    module.add_function(wrap_pyfunction!(functions::safetensors_index, module)?)?;
    module.add_function(wrap_pyfunction!(functions::write_safetensors, module)?)?;
    module.add_function(wrap_pyfunction!(functions::read_numbers, module)?)?;
    module.add_function(wrap_pyfunction!(functions::top_k, module)?)?;
    module.add_function(wrap_pyfunction!(functions::cpu_features, module)?)?;
    module.add_function(wrap_pyfunction!(functions::available_isas, module)?)?;
    module.add_function(wrap_pyfunction!(functions::default_threads, module)?)?;
    module.add_function(wrap_pyfunction!(functions::cgroup_quota, module)?)?;
    module.add_function(wrap_pyfunction!(functions::peak_macs_per_second, module)?)?;
    Ok(())
}
