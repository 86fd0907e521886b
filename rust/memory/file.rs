//! Memory-mapped files.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

use crate::error::Error;

/// Maps `path` into memory; its pages are read on first use. Returns None if the file is empty.
///
/// The file must not be truncated or rewritten while it is mapped. Writers that rename a finished
/// file into place, such as [`write_safetensors`](crate::weights::write_safetensors), are safe.
///
/// # Errors
/// `path` is not a regular file, or cannot be opened or mapped.
pub fn map(path: &Path) -> Result<Option<Mmap>, Error> {
    let io = |e| Error::io(path, e);
    // Before it is opened: opening a pipe would wait for its writer.
    let metadata = path.metadata().map_err(io)?;
    if metadata.is_dir() {
        let text = "is a directory, expected a file";
        return Err(io(io::Error::new(io::ErrorKind::IsADirectory, text)));
    }
    if !metadata.is_file() {
        return Err(Error::weights(path, "expected a regular file"));
    }
    if metadata.len() == 0 {
        return Ok(None);
    }
    let file = File::open(path).map_err(io)?;
    // SAFETY: the mapping is read-only. As for every memory-mapped file, nobody may truncate the file
    // meanwhile, which the documentation above demands.
    unsafe { Mmap::map(&file) }.map(Some).map_err(io)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let message = map(dir.path()).unwrap_err().to_string();
        assert!(message.contains("directory"), "{message}");
        assert!(map(&dir.path().join("none")).is_err());
        #[cfg(unix)]
        assert!(map(Path::new("/dev/zero")).is_err());
    }
}
