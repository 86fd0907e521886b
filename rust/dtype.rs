//! Types of tensor elements.

use std::fmt;

use bytemuck::Pod;

/// The type of the elements of a tensor in the arena, and the type that a layer computes in. Types
/// in files are another matter: see [`weights::Dtype`](crate::weights::Dtype).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
}

impl Dtype {
    /// Bytes of an element.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
        }
    }

    /// The name, as the names of kernels begin.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
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
    }
}
