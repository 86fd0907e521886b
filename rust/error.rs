//! Errors: each message says what was expected and what was found.

use std::io;
use std::path::{Path, PathBuf};

/// Every error of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be opened or read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },

    /// A weights file or its config is malformed.
    #[error("{}: {message}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// The tensor or field, what was expected, what was found.
        message: String,
    },

    /// A value that was passed in is out of range.
    #[error("{0}")]
    Argument(String),

    /// The instruction set that was asked for is not on this machine.
    #[error("{0}")]
    UnsupportedIsa(String),

    /// The activations do not fit in memory.
    #[error("{0}")]
    OutOfMemory(String),

    /// The caller has ended the call through its watch.
    #[error("interrupted by the caller")]
    Interrupted,
}

impl Error {
    pub(crate) fn weights(path: &Path, message: impl Into<String>) -> Self {
        Self::Weights {
            path: path.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Prepends `what` to the message of an argument's error.
    pub(crate) fn context(self, what: &str) -> Self {
        match self {
            Self::Argument(message) => Self::Argument(format!("{what}: {message}")),
            other => other,
        }
    }

    /// Turns an argument's error into an error of the file that the argument was read from.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Argument(message) => Self::weights(path, message),
            other => other,
        }
    }
}
