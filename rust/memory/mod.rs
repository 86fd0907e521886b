//! Memory from the system, and files read through it.

pub mod buffer;
pub mod file;
pub mod text;

pub use buffer::Buffer;
