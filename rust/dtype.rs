//! Types of tensor elements.

use std::fmt;

use bytemuck::Pod;

/// The type of the elements of a tensor in the arena, and the type that a layer computes in. Types
/// in files are another matter: see [`weights::Dtype`](crate::weights::Dtype).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
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
            Self::I16 => 2,
            Self::U8 => 1,
        }
    }

    /// The name of the Rust type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
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

impl Element for i16 {
    const DTYPE: Dtype = Dtype::I16;
}

impl Element for u8 {
    const DTYPE: Dtype = Dtype::U8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_names_are_those_of_the_rust_types() {
        fn check<T: Element>() {
            assert_eq!(T::DTYPE.size(), size_of::<T>());
            assert_eq!(T::DTYPE.name(), std::any::type_name::<T>());
        }
        check::<f32>();
        check::<i16>();
        check::<u8>();
    }
}
