//! Vectors of f32, one interface for all instruction sets, and which of them this machine has.
//!
//! A kernel is written once, generic over [`Simd`], and compiled once for each tier. A value of a
//! `Simd` type is a proof: [`Avx2`] and [`Avx512`] can only be made if the processor and the
//! operating system have those instructions, so the arithmetic on it is safe to call. Loads and
//! stores stay unsafe, because they take raw pointers.

mod denormals;
mod isa;
mod portable;
mod vector;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use denormals::FlushDenormals;
pub use isa::{Isa, cpu_features};
pub use portable::Portable;
pub use vector::Simd;

#[cfg(test)]
mod tests;
