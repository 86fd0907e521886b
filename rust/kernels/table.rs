//! The one place that turns a tier into a set of kernels.

use super::conv::ConvKernels;
use super::conv::winograd::WinogradKernels;
use super::elementwise::Elementwise;
use super::elementwise::kernel::elementwise;
use super::peak::Peak;
use super::pool::PoolKernels;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Isa, Portable, Simd};

/// The kernels of one tier. Having one means that this machine has the tier.
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
        if !isa.is_available() {
            return None;
        }
        Some(match isa {
            Isa::Portable => Self::of::<Portable>(isa, ConvKernels::portable()),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::of::<Avx2>(isa, ConvKernels::avx2()),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self::of::<Avx512>(isa, ConvKernels::avx512()),
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        })
    }

    fn of<S: Simd>(isa: Isa, conv: ConvKernels) -> Self {
        Self {
            isa,
            conv,
            winograd: WinogradKernels::new::<S>(),
            pool: PoolKernels::new::<S>(),
            elementwise: elementwise::<S>,
            peak: Peak::new::<S>(),
        }
    }

    /// The convolution kernel's name: `f32_conv_<MR>x<NR>_<isa>`.
    pub fn conv_name(&self) -> String {
        format!("f32_conv_{}x{}_{}", self.conv.mr(), self.conv.nr, self.isa)
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
