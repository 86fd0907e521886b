//! Memory from the system, and files read piece by piece.

pub mod buffer;
pub mod file;
pub mod room;
pub mod text;

pub use buffer::Buffer;
pub use file::InputFile;
