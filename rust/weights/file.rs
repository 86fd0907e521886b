//! A safetensors file: its header, and the bytes of its tensors.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

pub use safetensors::Dtype;
use safetensors::tensor::{Metadata, SafeTensorError, TensorInfo};
use serde::Deserialize;

use crate::error::Error;
use crate::memory::{InputFile, room};

/// Bytes of the header's length, which comes first.
const LENGTH_BYTES: u64 = 8;

/// The longest header that the format allows.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Bytes of memory that a parsed header takes at most for each of its own: names, shapes and places.
const PARSED: usize = 24;

/// A weights file, read piece by piece.
pub struct WeightsFile {
    file: InputFile,
}

/// A tensor in a file or in memory: little-endian elements, the last axis fastest.
#[derive(Clone, Debug)]
pub struct Entry<D> {
    /// The type of the elements.
    pub dtype: Dtype,
    /// The shape.
    pub shape: Vec<usize>,
    /// The elements' bytes, or their place.
    pub data: D,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "__metadata__")]
    metadata: Option<HashMap<String, String>>,
    #[serde(flatten)]
    tensors: HashMap<String, TensorInfo>,
}

impl WeightsFile {
    /// Opens `path`. If it is truncated or rewritten while it is open, reading it fails, or
    /// [`WeightsFile::check_unchanged`] does.
    ///
    /// # Errors
    /// The file is empty, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = InputFile::open(path)?;
        match file.is_empty() {
            true => Err(Error::weights(path, "the file is empty")),
            false => Ok(Self { file }),
        }
    }

    /// Reads the header: the tensors by name, with their places in the file.
    ///
    /// # Errors
    /// The header is not a safetensors header, or does not fit the file's size or in memory.
    pub fn entries(&self) -> Result<HashMap<String, Entry<Range<u64>>>, Error> {
        let mut length = [0; LENGTH_BYTES as usize];
        if self.file.len() < LENGTH_BYTES {
            return Err(self.malformed(&SafeTensorError::HeaderTooSmall, 0));
        }
        self.file.read_at(0, &mut length)?;
        let length = u64::from_le_bytes(length);
        let malformed = |e| self.malformed(&e, length);
        let start = match length.checked_add(LENGTH_BYTES) {
            Some(start) if start <= self.file.len() && length <= MAX_HEADER_BYTES => start,
            _ => return Err(malformed(SafeTensorError::InvalidHeaderLength)),
        };
        let mut header = Vec::new();
        let bytes = length as usize;
        room::check(PARSED * bytes + room::SMALL, "the header of the weights")?;
        room::reserve(&mut header, bytes, "the header of the weights")?;
        header.resize(bytes, 0);
        self.file.read_at(LENGTH_BYTES, &mut header)?;

        let header = str::from_utf8(&header).map_err(SafeTensorError::InvalidHeader);
        let parse = |text| {
            serde_json::from_str(text).map_err(SafeTensorError::InvalidHeaderDeserialization)
        };
        let header: Header = header.and_then(parse).map_err(malformed)?;
        let mut tensors: Vec<_> = header.tensors.into_iter().collect();
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        let header = Metadata::new(header.metadata, tensors).map_err(malformed)?;
        if (header.data_len() as u64).checked_add(start) != Some(self.file.len()) {
            return Err(malformed(SafeTensorError::MetadataIncompleteBuffer));
        }
        let entry = |info: &TensorInfo| Entry {
            dtype: info.dtype,
            shape: info.shape.clone(),
            data: start + info.data_offsets.0 as u64..start + info.data_offsets.1 as u64,
        };
        let entries = header.tensors().into_iter();
        Ok(entries.map(|(name, info)| (name, entry(info))).collect())
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Fills `bytes` with those of the file from `start` on.
    ///
    /// # Errors
    /// As for [`InputFile::read_at`].
    pub fn read_at(&self, start: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.file.read_at(start, bytes)
    }

    /// Checks that nobody has written to the file since it was opened.
    ///
    /// # Errors
    /// As for [`InputFile::check_unchanged`].
    pub fn check_unchanged(&self) -> Result<(), Error> {
        self.file.check_unchanged()
    }

    fn malformed(&self, error: &SafeTensorError, length: u64) -> Error {
        Error::weights(self.path(), self.describe(error, length))
    }

    fn describe(&self, error: &SafeTensorError, length: u64) -> String {
        let size = self.file.len();
        match error {
            SafeTensorError::HeaderTooSmall => {
                format!("expected a safetensors file, which has at least 8 bytes; found {size}")
            }
            SafeTensorError::InvalidHeaderLength | SafeTensorError::HeaderTooLarge => format!(
                "expected a safetensors file whose first 8 bytes are its header's length; found \
                 a length of {length} in a file of {size} bytes: truncated, or another format?"
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
