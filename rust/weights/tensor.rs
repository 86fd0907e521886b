//! One tensor, its elements read as f32 and checked.

use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;

use super::file::WeightsFile;
use crate::error::Error;
use crate::memory::room;

/// Bytes that are read from a file at once if they are converted.
const PIECE: usize = 1 << 14;

/// The origin of tensors.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    /// For messages.
    pub(super) path: &'a Path,
}

/// The bytes of a tensor.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    /// In the caller's memory.
    Memory(&'a [u8]),
    /// In a file, from a place on.
    File(&'a WeightsFile, u64),
}

/// A tensor whose elements are not read yet.
pub struct Tensor<'a> {
    pub(super) origin: Origin<'a>,
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) bytes: Bytes<'a>,
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

    /// Some elements, in the file's order, as f32. `values` is overwritten; its memory is
    /// reused.
    ///
    /// # Errors
    /// The type is not f32, f16 or bf16, an element is infinite or NaN, the file cannot be read, or the
    /// elements do not fit in memory.
    ///
    /// # Panics
    /// If the tensor has fewer elements, and its bytes are in memory.
    pub fn read(&self, range: Range<usize>, values: &mut Vec<f32>) -> Result<(), Error> {
        let name = &self.name;
        room::reserve(values, range.len(), name)?;
        values.resize(range.len(), 0.0);
        match self.dtype {
            Dtype::F32 => self.read_f32(range.start, values)?,
            Dtype::F16 => {
                self.read_halves(range.start, values, |b| f16::from_le_bytes(b).to_f32())?
            }
            Dtype::BF16 => {
                self.read_halves(range.start, values, |b| bf16::from_le_bytes(b).to_f32())?;
            }
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

    /// Some elements of a tensor of I8, in the file's order. `values` is overwritten; its memory is reused.
    ///
    /// # Errors
    /// The type is not I8, the file cannot be read, or the elements do not fit in memory.
    ///
    /// # Panics
    /// As for [`Tensor::read`].
    pub fn read_i8(&self, range: Range<usize>, values: &mut Vec<i8>) -> Result<(), Error> {
        if self.dtype != Dtype::I8 {
            return Err(self.error(&format!("expected type I8, found {:?}", self.dtype)));
        }
        room::reserve(values, range.len(), &self.name)?;
        values.resize(range.len(), 0);
        self.bytes(range.start, bytemuck::cast_slice_mut(values))
    }

    /// Elements of f32 go to their place at once.
    fn read_f32(&self, first: usize, values: &mut [f32]) -> Result<(), Error> {
        self.bytes(4 * first, bytemuck::cast_slice_mut(values))?;
        if cfg!(target_endian = "big") {
            values
                .iter_mut()
                .for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
        }
        Ok(())
    }

    fn read_halves(
        &self,
        first: usize,
        values: &mut [f32],
        convert: impl Fn([u8; 2]) -> f32,
    ) -> Result<(), Error> {
        let mut piece = [0; PIECE];
        for (i, values) in values.chunks_mut(PIECE / 2).enumerate() {
            let bytes = &mut piece[..2 * values.len()];
            self.bytes(2 * first + i * PIECE, bytes)?;
            for (value, &half) in values.iter_mut().zip(bytes.as_chunks().0) {
                *value = convert(half);
            }
        }
        Ok(())
    }

    /// Fills `bytes` with the tensor's from `start` on.
    fn bytes(&self, start: usize, bytes: &mut [u8]) -> Result<(), Error> {
        match self.bytes {
            Bytes::Memory(data) => bytes.copy_from_slice(&data[start..start + bytes.len()]),
            Bytes::File(file, place) => file.read_at(place + start as u64, bytes)?,
        }
        Ok(())
    }
}

/// True if no value is infinite or NaN.
pub fn all_finite(values: &[f32]) -> bool {
    // Infinities and NaNs have all exponent bits set: one pass without branches.
    let is_finite = |v: &f32| v.to_bits() & 0x7f80_0000 != 0x7f80_0000;
    values.iter().fold(true, |all, v| all & is_finite(v))
}
