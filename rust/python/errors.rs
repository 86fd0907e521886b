//! The core's errors as Python exceptions.

use std::io;

use pyo3::create_exception;
use pyo3::exceptions::{
    PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;

use crate::error::Error;

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
            // Given errno and file name, Python raises FileNotFoundError and the like.
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
            // A signal handler has its own exception, which `Signals` raises.
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        }
    }
}

fn errno(error: &io::Error) -> Option<i32> {
    const ENOENT: i32 = 2;
    let not_found = error.kind() == io::ErrorKind::NotFound;
    error.raw_os_error().or(not_found.then_some(ENOENT))
}
