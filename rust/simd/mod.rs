//! Vectors of f32 with one interface for all instruction sets, and the tiers of this machine.
//!
//! A kernel is written once, generic over [`Simd`], and compiled once for each tier. A value of a
//! `Simd` type is a proof: safe code gets an [`Avx2`] or [`Avx512`] only from a check that the
//! processor and the operating system have those instructions, so the arithmetic on it is safe to
//! call. Loads and stores stay unsafe, because they take raw pointers. `Simd` is an unsafe trait:
//! kernels rely on its implementations.

mod bf16;
mod bf16_emulated;
mod denormals;
mod dot;
mod dot_bf16;
mod dot_plain;
mod features;
mod isa;
// Miri runs no inline assembly, and needs no speed.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod mxcsr;
mod portable;
mod stored;
mod vector;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod bf16_avx2;
#[cfg(target_arch = "x86_64")]
mod bf16_avx512;
#[cfg(target_arch = "x86_64")]
mod dot_avx2;
#[cfg(target_arch = "x86_64")]
mod dot_vnni;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use bf16::{Bf16, Vector};
#[cfg(target_arch = "x86_64")]
pub use bf16_avx2::WidenedAvx2;
#[cfg(target_arch = "x86_64")]
pub use bf16_avx512::Avx512Bf16;
pub use bf16_emulated::Emulated;
pub use denormals::flush_denormals;
pub use dot::{Activation, Dot, Finish, IntDot, MOST};
#[cfg(target_arch = "x86_64")]
pub use dot_avx2::Avx2Pairs;
pub use dot_bf16::Bf16Pairs;
pub use dot_plain::Plain;
#[cfg(target_arch = "x86_64")]
pub use dot_vnni::{Avx512Vnni, AvxVnni};
pub use features::{Feature, Features};
pub use isa::Isa;
pub use portable::Portable;
pub use stored::Stored;
pub use vector::Simd;

#[cfg(test)]
mod tests;
