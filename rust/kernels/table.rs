//! The one place that turns a tier into a set of kernels.

use super::conv::ConvKernels;
use super::conv::winograd::WinogradKernels;
use super::elementwise::Elementwise;
use super::elementwise::kernel::elementwise;
use super::peak::Peak;
use super::pool::PoolKernels;
use crate::simd::{Isa, Simd};

/// The kernels of one tier. Only a proof that this machine has the tier makes a table.
#[derive(Clone, Copy)]
pub struct KernelTable {
    /// The tier.
    pub isa: Isa,
    /// Convolutions, and the packing of their weights.
    pub conv: ConvKernels,
    /// Winograd's transforms.
    pub winograd: WinogradKernels,
    /// Pools.
    pub pool: PoolKernels,
    /// Batch norm, addition and ReLU of a row.
    pub elementwise: Elementwise,
    /// The loop whose speed is the tier's peak.
    pub peak: Peak,
}

impl KernelTable {
    /// The kernels of `isa`, or `None` if this machine lacks it.
    pub fn new(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Portable => Self::of(isa, ConvKernels::portable),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::of(isa, ConvKernels::avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self::of(isa, ConvKernels::avx512),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }

    fn of<S: Simd>(isa: Isa, conv: impl FnOnce(S) -> ConvKernels) -> Option<Self> {
        let proof = S::detect()?;
        Some(Self {
            isa,
            conv: conv(proof),
            winograd: WinogradKernels::new(proof),
            pool: PoolKernels::new(proof),
            elementwise: elementwise::<S>,
            peak: Peak::new(proof),
        })
    }

    /// The convolution kernel's name: `f32_conv_<MR>x<NR>_<isa>`.
    pub fn conv_name(&self) -> String {
        format!(
            "f32_conv_{}x{}_{}",
            self.conv.mr(),
            self.conv.nr(),
            self.isa
        )
    }

    /// The name of another operation's kernel: `f32_<operation>_<isa>`.
    pub fn name(&self, operation: &str) -> String {
        format!("f32_{operation}_{}", self.isa)
    }

    /// The tables of every tier that this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Isa::available().filter_map(Self::new)
    }
}
