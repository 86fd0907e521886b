//! One tensor, its elements read as f32 and checked.

use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;

use super::file::WeightsFile;
use crate::error::Error;

/// The origin of tensors.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// For messages.
    pub(super) path: &'a Path,
    /// The file, if its pages can be given back.
    pub(super) file: Option<&'a WeightsFile>,
}

/// A tensor whose elements are not read yet.
pub struct Tensor<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) data: &'a [u8],
}

impl Origin<'_> {
    /// An error of this origin.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::weights(self.path, message)
    }
}

impl Tensor<'_> {
    /// An error of this tensor.
    pub fn error(&self, message: &str) -> Error {
        self.origin
            .error(format!("tensor {}: {message}", self.name))
    }

    /// Removes the tensor's pages from this process's memory; they stay in the file and in the system's
    /// cache. Without this, a network would be in memory twice while it is loaded.
    pub fn release(&self) {
        if let Some(file) = self.origin.file {
            file.release(self.data);
        }
    }

    /// Some elements, in the file's order, as f32. `values` is overwritten; its memory is
    /// reused.
    ///
    /// # Errors
    /// The type is not f32, f16 or bf16, or an element is infinite or NaN.
    ///
    /// # Panics
    /// If the tensor has fewer elements.
    pub fn read(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<(), Error> {
        let name = &self.name;
        let size = self.dtype.bitsize() / 8;
        let data = &self.data[range.start * size..range.end * size];
        values.clear();
        match self.dtype {
            Dtype::F32 => extend(values, data, f32::from_le_bytes),
            Dtype::F16 => extend(values, data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => extend(values, data, |b| bf16::from_le_bytes(b).to_f32()),
            other => {
                return Err(self.origin.error(format!(
                    "tensor {name}: expected type F32, F16 or BF16, found {other:?}"
                )));
            }
        }
        if all_finite(values) {
            return Ok(());
        }
        let at = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        Err(self.origin.error(format!(
            "tensor {name}: expected finite values, found {} at element {}",
            values[at],
            range.start + at
        )))
    }
}

/// True if no value is infinite or NaN.
pub fn all_finite(values: &[f32]) -> bool {
    // Infinities and NaNs have all exponent bits set: one pass without branches.
    let is_finite = |v: &f32| v.to_bits() & 0x7f80_0000 != 0x7f80_0000;
    values.iter().fold(true, |all, v| all & is_finite(v))
}

fn extend<const N: usize>(values: &mut Vec<f32>, data: &[u8], convert: impl Fn([u8; N]) -> f32) {
    values.extend(data.as_chunks::<N>().0.iter().map(|&b| convert(b)));
}
