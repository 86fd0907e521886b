//! The arithmetic of a network.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The arithmetic that a network runs in. Its weights in a file are f32 for the first two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// IEEE 754 binary32.
    F32,
    /// Activations and weights of bf16, sums in f32.
    Bf16,
    /// Activations of 8 bits without sign, weights of 8 bits, sums of 32 bits.
    Int8,
}

impl Precision {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let all = [Self::F32, Self::Bf16, Self::Int8];
        all.into_iter()
            .find(|precision| precision.name() == name)
            .ok_or_else(|| {
                Error::Argument(format!(
                    "precision: expected f32, bf16 or int8, found {name:?}"
                ))
            })
    }
}
