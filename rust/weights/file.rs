//! A safetensors file in memory.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
pub use safetensors::Dtype;
use safetensors::tensor::{SafeTensorError, SafeTensors, TensorView};

use crate::error::Error;
use crate::memory::file;

/// A weights file in memory, whose pages are read on first use.
pub struct WeightsFile {
    path: PathBuf,
    map: Mmap,
}

/// A tensor in memory: little-endian elements, the last axis fastest.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Vec<usize>,
    /// The elements' bytes.
    pub data: &'a [u8],
}

impl<'a> From<TensorView<'a>> for Entry<'a> {
    fn from(view: TensorView<'a>) -> Self {
        Self {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            data: view.data(),
        }
    }
}

impl WeightsFile {
    /// Opens `path`, which must not be truncated or rewritten while it is open.
    ///
    /// # Errors
    /// The file is empty, or cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let map = file::map(path)?.ok_or_else(|| Error::weights(path, "the file is empty"))?;
        Ok(Self {
            path: path.to_owned(),
            map,
        })
    }

    /// Reads the header: the tensors by name.
    ///
    /// # Errors
    /// The header is not a safetensors header, or does not fit the file's size.
    pub fn entries(&self) -> Result<HashMap<String, Entry<'_>>, Error> {
        let tensors = SafeTensors::deserialize(&self.map)
            .map_err(|e| Error::weights(&self.path, self.describe(&e)))?;
        let entries = tensors.tensors().into_iter();
        Ok(entries
            .map(|(name, view)| (name, Entry::from(view)))
            .collect())
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The range of the file that `bytes`, a part of the mapping, comes from.
    pub fn range(&self, bytes: &[u8]) -> Range<usize> {
        let start = bytes.as_ptr() as usize - self.map.as_ptr() as usize;
        start..start + bytes.len()
    }

    /// Removes the pages of `bytes`, a part of the mapping, from this process's memory.
    pub(super) fn release(&self, bytes: &[u8]) {
        #[cfg(unix)]
        {
            let range = self.range(bytes);
            // SAFETY: pages of a read-only mapping of a file that are touched again are read
            // from the file again. It is only advice: if it fails, the pages stay.
            let _ = unsafe {
                self.map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.len(),
                )
            };
        }
        #[cfg(not(unix))]
        let _ = bytes;
    }

    fn describe(&self, error: &SafeTensorError) -> String {
        let size = self.map.len();
        let header = || u64::from_le_bytes(self.map[..8].try_into().unwrap_or_default());
        match error {
            SafeTensorError::HeaderTooSmall => {
                format!("expected a safetensors file, which has at least 8 bytes; found {size}")
            }
            SafeTensorError::InvalidHeaderLength | SafeTensorError::HeaderTooLarge => format!(
                "expected a safetensors file whose first 8 bytes are its header's length; found \
                 a length of {} in a file of {size} bytes: truncated, or another format?",
                header()
            ),
            SafeTensorError::MetadataIncompleteBuffer => format!(
                "the header describes more or fewer bytes of tensors than the file's {size} bytes \
                 hold: truncated?"
            ),
            SafeTensorError::InvalidOffset(name) => format!(
                "tensor {name}: the header's offsets overlap, leave gaps, or lie outside the \
                 file of {size} bytes"
            ),
            SafeTensorError::TensorInvalidInfo => {
                "a tensor's shape and type do not fit its offsets in the header".into()
            }
            SafeTensorError::ValidationOverflow => {
                "a tensor's shape in the header is too large to be true".into()
            }
            other => format!("expected a safetensors file: {other}"),
        }
    }
}
