//! The precision of a training step's products.

use std::str::FromStr;

use crate::error::Error;
use crate::kernels::KernelTable;
use crate::kernels::conv::mixed::MixedKernels;

/// The type that the products of convolutions are computed in. Everything else is f32 in any case: sums,
/// activations, batch norm, weights and the optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// bf16, by the processor's instructions.
    Bf16,
    /// bf16 in plain Rust, for tests on processors without them.
    EmulatedBf16,
}

impl Precision {
    /// The name, as `precision=` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::EmulatedBf16 => "emulated-bf16",
        }
    }

    /// The kernels of `table`, None for f32.
    ///
    /// # Errors
    /// This machine or the tier lacks the instructions.
    pub(super) fn kernels(self, table: &KernelTable) -> Result<Option<MixedKernels>, Error> {
        match self {
            Self::F32 => Ok(None),
            Self::EmulatedBf16 => Ok(Some(table.emulated_mixed)),
            Self::Bf16 => table.mixed.map(Some).ok_or_else(|| {
                Error::UnsupportedIsa(format!(
                    "precision: bf16 needs the instructions avx512bf16 on the tier avx512; this is the tier {} \
                     of a machine with: {}. Train with precision=\"f32\"",
                    table.isa,
                    table.features.names().collect::<Vec<_>>().join(", ")
                ))
            }),
        }
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let all = [Self::F32, Self::Bf16, Self::EmulatedBf16];
        all.into_iter().find(|p| p.name() == name).ok_or_else(|| {
            Error::Argument(format!("precision: expected f32 or bf16, found {name:?}"))
        })
    }
}
