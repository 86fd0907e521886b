//! Files that are read piece by piece.
//!
//! A file may be truncated or rewritten while it is read. Then a read ends early, or
//! [`InputFile::check_unchanged`] tells; a memory map would end the process with SIGBUS.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::Error;

/// An open file, read at any place by any thread.
pub struct InputFile {
    path: PathBuf,
    file: File,
    len: u64,
    modified: Option<SystemTime>,
}

impl InputFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// `path` is not a regular file, or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let io = |e| Error::io(path, e);
        // Before it is opened: opening a pipe would wait for its writer.
        require_regular(path, &path.metadata().map_err(io)?)?;
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        require_regular(path, &metadata)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            len: metadata.len(),
            modified: metadata.modified().ok(),
        })
    }

    /// The path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of bytes when it was opened.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if the file had no bytes when it was opened.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `bytes` with those of the file from `start` on.
    ///
    /// # Errors
    /// The file ends before, or cannot be read.
    pub fn read_at(&self, start: u64, bytes: &mut [u8]) -> Result<(), Error> {
        read_exact_at(&self.file, start, bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.changed("it has become shorter"),
            _ => Error::io(&self.path, e),
        })
    }

    /// Checks that nobody has written to the file since it was opened.
    ///
    /// # Errors
    /// Its length or its time of modification is another one.
    pub fn check_unchanged(&self) -> Result<(), Error> {
        let now = self.file.metadata().map_err(|e| Error::io(&self.path, e))?;
        match now.len() == self.len && now.modified().ok() == self.modified {
            true => Ok(()),
            false => Err(self.changed("somebody has written to it")),
        }
    }

    fn changed(&self, found: &str) -> Error {
        Error::weights(
            &self.path,
            format!(
                "expected a file that stays as it is while it is loaded, but {found}: load it again \
                 when it is complete, and replace files by renaming a finished one (mv new.tmp {})",
                self.path.display()
            ),
        )
    }
}

fn require_regular(path: &Path, metadata: &Metadata) -> Result<(), Error> {
    if metadata.is_dir() {
        let text = "is a directory, expected a file";
        let error = io::Error::new(io::ErrorKind::IsADirectory, text);
        return Err(Error::io(path, error));
    }
    match metadata.is_file() {
        true => Ok(()),
        false => Err(Error::weights(path, "expected a regular file")),
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, start: u64, bytes: &mut [u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, start)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut start: u64, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, start)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        start += read as u64;
    }
    Ok(())
}

/// Systems without threads.
#[cfg(not(any(unix, windows)))]
fn read_exact_at(mut file: &File, start: u64, bytes: &mut [u8]) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| InputFile::open(path).err().map(|e| e.to_string());
        let message = open(dir.path()).unwrap();
        assert!(message.contains("directory"), "{message}");
        assert!(open(&dir.path().join("none")).is_some());
        #[cfg(unix)]
        assert!(open(Path::new("/dev/zero")).is_some());
    }

    #[test]
    fn a_file_that_changes_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights");
        fs::write(&path, [1, 2, 3, 4]).unwrap();
        let file = InputFile::open(&path).unwrap();
        let mut bytes = [0; 2];
        file.read_at(1, &mut bytes).unwrap();
        assert_eq!(bytes, [2, 3]);
        assert!(file.check_unchanged().is_ok());

        let written = File::options().write(true).open(&path).unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        written.set_modified(later).unwrap();
        let message = file.check_unchanged().unwrap_err().to_string();
        assert!(message.contains("written") && message.contains("weights"));
        written.set_len(2).unwrap();
        let message = file.read_at(1, &mut bytes).unwrap_err().to_string();
        assert!(message.contains("shorter") && message.contains("mv new.tmp"));
        // A file that is replaced by renaming stays what it was.
        let file = InputFile::open(&path).unwrap();
        fs::write(dir.path().join("new"), [7]).unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert!(file.check_unchanged().is_ok());
        file.read_at(0, &mut bytes).unwrap();
        assert_eq!(bytes, [1, 2]);
    }
}
