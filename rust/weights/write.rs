//! Writing a weights file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use safetensors::tensor::{SafeTensorError, TensorView};

use super::file::Entry;
use crate::error::Error;

/// Writes tensors as a safetensors file. They go to a temporary file beside `path`, which is then
/// renamed.
///
/// # Errors
/// The file cannot be written.
pub fn write_safetensors(
    path: &Path,
    tensors: &HashMap<String, Entry<&[u8]>>,
    metadata: HashMap<String, String>,
) -> Result<(), Error> {
    const RESERVED: &str = "__metadata__";
    if tensors.contains_key(RESERVED) {
        return Err(Error::weights(
            path,
            format!("no tensor can be called {RESERVED}"),
        ));
    }
    let metadata = (!metadata.is_empty()).then_some(metadata);
    let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    names.sort_unstable();
    let view = |name: &str| {
        let entry = &tensors[name];
        TensorView::new(entry.dtype, entry.shape.clone(), entry.data)
            .map(|view| (name.to_owned(), view))
    };
    let invalid = |e: SafeTensorError| Error::weights(path, format!("cannot be written: {e}"));
    let views: Vec<_> = names
        .into_iter()
        .map(view)
        .collect::<Result<_, _>>()
        .map_err(invalid)?;
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let io = |e| Error::io(path, e);
    // safetensors creates files that only their owner can read; this one gets the usual permissions.
    let permissions = File::create(&part)
        .and_then(|file| file.metadata())
        .map_err(io)?
        .permissions();
    let written = safetensors::serialize_to_file(views, metadata, &part)
        .map_err(|e| match e {
            SafeTensorError::IoError(e) => io(e),
            other => invalid(other),
        })
        .and_then(|()| fs::set_permissions(&part, permissions).map_err(io))
        .and_then(|()| fs::rename(&part, path).map_err(io));
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    written
}
