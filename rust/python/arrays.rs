//! Conversions between numpy arrays and the core's slices.

use std::collections::HashMap;

use half::f16;
use numpy::{
    Element, PyArray, PyArray2, PyArrayDescrMethods, PyArrayDyn, PyArrayMethods,
    PyReadonlyArrayDyn, PyUntypedArray, PyUntypedArrayMethods, dtype,
};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::infer::Images;
use crate::shape::Shape;
use crate::weights::{Dtype, Entry};

/// The images of a call, borrowed from numpy for as long as the forward runs.
pub enum Batch<'py> {
    /// Normalised already.
    F32(PyReadonlyArrayDyn<'py, f32>),
    /// Pixels.
    U8(PyReadonlyArrayDyn<'py, u8>),
}

impl<'py> Batch<'py> {
    /// Borrows `x`, the argument of a call, for a network of `channels` channels.
    pub fn new(x: &Bound<'py, PyAny>, channels: usize) -> PyResult<(Self, Shape)> {
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

    /// The images as the core's type.
    pub fn images(&self) -> PyResult<Images<'_>> {
        Ok(match self {
            Self::F32(x) => Images::F32(x.as_slice()?),
            Self::U8(x) => Images::U8(x.as_slice()?),
        })
    }
}

/// The caller's tensors, borrowed from numpy.
pub struct Arrays<'py>(Vec<(String, Array<'py>)>);

enum Array<'py> {
    F32(PyReadonlyArrayDyn<'py, f32>),
    F16(PyReadonlyArrayDyn<'py, f16>),
    I8(PyReadonlyArrayDyn<'py, i8>),
}

impl<'py> Arrays<'py> {
    /// Borrows the arrays of a mapping from names to float32, float16 or int8 arrays.
    pub fn new(tensors: &Bound<'py, PyAny>) -> PyResult<Self> {
        let mut arrays = Vec::new();
        for item in tensors.call_method0("items")?.try_iter()? {
            let (name, value): (String, Bound<'py, PyAny>) = item?.extract()?;
            let wrong = |found: String| {
                PyTypeError::new_err(format!(
                    "tensor {name}: expected a C-contiguous float32, float16 or int8 array, found {found}"
                ))
            };
            let array = if let Ok(array) = value.cast::<PyArrayDyn<f32>>() {
                Array::F32(array.try_readonly()?)
            } else if let Ok(array) = value.cast::<PyArrayDyn<f16>>() {
                Array::F16(array.try_readonly()?)
            } else if let Ok(array) = value.cast::<PyArrayDyn<i8>>() {
                Array::I8(array.try_readonly()?)
            } else if let Ok(array) = value.cast::<PyUntypedArray>() {
                return Err(wrong(format!("type {}", array.dtype())));
            } else {
                return Err(wrong(value.get_type().to_string()));
            };
            let contiguous = match &array {
                Array::F32(array) => array.is_c_contiguous(),
                Array::F16(array) => array.is_c_contiguous(),
                Array::I8(array) => array.is_c_contiguous(),
            };
            if !contiguous {
                return Err(wrong("one with other strides".into()));
            }
            arrays.push((name, array));
        }
        Ok(Self(arrays))
    }

    /// The tensors as the core's type.
    pub fn entries(&self) -> PyResult<HashMap<String, Entry<&[u8]>>> {
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
                Array::I8(array) => (
                    Dtype::I8,
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

/// A two-dimensional numpy array.
pub type Matrix<'py, T> = Bound<'py, PyArray2<T>>;

/// `data` as a matrix of this shape, without a copy.
pub fn matrix<T: Element>(
    py: Python<'_>,
    data: Vec<T>,
    shape: [usize; 2],
) -> PyResult<Matrix<'_, T>> {
    PyArray::from_vec(py, data).reshape(shape)
}
