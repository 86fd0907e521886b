//! Types of tensor elements.

use std::fmt;

use bytemuck::Pod;
use half::bf16;

/// The type of the elements of a tensor in the arena, and the type that a layer computes in. Types
/// in files are another matter: see [`weights::Dtype`](crate::weights::Dtype).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// The upper half of binary32: its range, with 8 bits of precision.
    Bf16,
    /// Whole numbers from 0 up in 16 bits: activations of int8 networks for kernels that multiply pairs.
    I16,
    /// The same in 8 bits, for kernels that multiply groups of four.
    U8,
}

impl Dtype {
    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::I16 => 2,
            Self::U8 => 1,
        }
    }

    /// The precision of a layer that computes on such elements, as users name it.
    pub const fn precision(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::I16 | Self::U8 => "int8",
        }
    }

    /// The elements that are stored for so many channels of a pixel: in bf16 whole pairs.
    pub const fn stored(self, channels: usize) -> usize {
        match self {
            Self::Bf16 => channels.next_multiple_of(2),
            Self::F32 | Self::I16 | Self::U8 => channels,
        }
    }

    /// The name of the Rust type, without its path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::I16 => "i16",
            Self::U8 => "u8",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A Rust type whose values are a tensor's elements.
pub trait Element: Pod {
    /// Its name among the types of tensors.
    const DTYPE: Dtype;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
}

impl Element for bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
}

impl Element for i16 {
    const DTYPE: Dtype = Dtype::I16;
}

impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}

/// A type of real numbers.
pub trait Real: Element + Into<f32> {
    /// The number, rounded to nearest even.
    fn rounded(value: f32) -> Self;
}

impl Real for f32 {
    #[inline(always)]
    fn rounded(value: f32) -> Self {
        value
    }
}

impl Real for bf16 {
    #[inline(always)]
    fn rounded(value: f32) -> Self {
        // Without a branch, so that the compiler makes vectors of it.
        let bits = value.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        let quiet = bits | 0x0040_0000;
        let upper = if value.is_nan() { quiet } else { nearest };
        Self::from_bits((upper >> 16) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_numbers_are_rounded_to_nearest_even() {
        let values = (0..200_000_u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9)));
        let ties = [
            0x3f80_8000,
            0x3f81_8000,
            0x7f7f_ffff,
            0x7f80_0001,
            0xff80_0000,
        ];
        for value in values.chain(ties.map(f32::from_bits)) {
            let (found, expected) = (bf16::rounded(value), bf16::from_f32(value));
            assert_eq!(found.to_bits(), expected.to_bits(), "{value:e}");
        }
    }

    #[test]
    fn sizes_and_names_are_those_of_the_rust_types() {
        fn check<T: Element>() {
            assert_eq!(T::DTYPE.size(), size_of::<T>());
            let name = std::any::type_name::<T>();
            assert_eq!(Some(T::DTYPE.name()), name.rsplit("::").next());
        }
        check::<f32>();
        check::<half::bf16>();
        check::<i16>();
        check::<u8>();
    }
}
