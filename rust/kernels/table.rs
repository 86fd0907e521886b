//! The one place that turns a tier into a set of kernels.

use super::activations::ActivationLayout;
use super::conv::bf16::Bf16Kernels;
use super::conv::f32::{ConvKernels, WeightGradientKernels};
use super::conv::winograd::WinogradKernels;
use super::elementwise::Elementwise;
use super::elementwise::kernel::elementwise;
use super::loss::LossKernels;
use super::norm::NormKernels;
use super::optimizer::OptimizerKernels;
use super::peak::Peak;
use super::pool::{PoolGradients, PoolKernels};
use super::shapes::KernelShapes;
use crate::dtype::Dtype;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Avx512Bf16, Feature};
use crate::simd::{Features, Isa, Portable, Simd};

/// The kernels of one tier, a set for each dtype. Only a proof that this machine has the tier makes a
/// table.
#[derive(Clone, Copy)]
pub struct KernelTable {
    /// The tier.
    pub isa: Isa,
    /// The features that the kernels were chosen by, in addition to the tier.
    pub features: Features,
    /// The layout of activations that the kernels work on.
    pub layout: ActivationLayout,
    /// The kernels that compute in f32.
    pub f32: F32Kernels,
    /// Convolutions in bf16, if this machine has the instructions beside the tier.
    pub bf16: Option<Bf16Kernels>,
    /// The same emulated, for tests: slow.
    pub emulated_bf16: Bf16Kernels,
}

/// The kernels of one tier that compute in f32.
#[derive(Clone, Copy)]
pub struct F32Kernels {
    /// Convolutions, and the packing of their weights.
    pub conv: ConvKernels,
    /// Gradients of convolutions by their weights.
    pub weight_gradient: WeightGradientKernels,
    /// Batch norm while training.
    pub norm: NormKernels,
    /// Winograd's transforms.
    pub winograd: WinogradKernels,
    /// Pools.
    pub pool: PoolKernels<f32>,
    /// Gradients of pools.
    pub pool_gradients: PoolGradients,
    /// Losses, and their gradients.
    pub loss: LossKernels,
    /// Steps of the weights.
    pub optimizer: OptimizerKernels,
    /// Batch norm, addition and ReLU of a row.
    pub elementwise: Elementwise,
    /// The loop whose speed is the tier's peak.
    pub peak: Peak,
}

impl F32Kernels {
    /// The kernels of tier `S`, or None if this machine lacks it.
    fn of<S: Simd>(
        conv: impl FnOnce(S) -> ConvKernels,
        weight_gradient: impl FnOnce(S) -> WeightGradientKernels,
    ) -> Option<Self> {
        let proof = S::detect()?;
        Some(Self {
            conv: conv(proof),
            weight_gradient: weight_gradient(proof),
            norm: NormKernels::new(proof),
            winograd: WinogradKernels::new(proof),
            pool: PoolKernels::new(proof),
            pool_gradients: PoolGradients::new(proof),
            loss: LossKernels::new(proof),
            optimizer: OptimizerKernels::new(proof),
            elementwise: elementwise::<S>,
            peak: Peak::new(proof),
        })
    }

    /// The kernels of `isa`, or None if this machine lacks it.
    fn of_isa(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Portable => Self::of(ConvKernels::portable, WeightGradientKernels::portable),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => Self::of(ConvKernels::avx2, WeightGradientKernels::avx2),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => Self::of(ConvKernels::avx512, WeightGradientKernels::avx512),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }
}

/// Emulated bf16 beside tier `S`.
fn emulated<S: Simd>(f32: WeightGradientKernels) -> Option<Bf16Kernels> {
    S::detect().map(|proof| Bf16Kernels::emulated(proof, f32))
}

impl KernelTable {
    /// The kernels of `isa`, or `None` if this machine lacks it. Kernels of a tier that need more
    /// than the tier's own instructions are chosen here, by `features`: those of bf16.
    pub fn new(isa: Isa, features: Features) -> Option<Self> {
        let f32 = F32Kernels::of_isa(isa)?;
        let gradient = f32.weight_gradient;
        let (bf16, emulated_bf16) = match isa {
            Isa::Portable => (None, emulated::<Portable>(gradient)?),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => (None, emulated::<Avx2>(gradient)?),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                let proof = Avx512Bf16::detect().filter(|_| features.has(Feature::Avx512bf16));
                let bf16 = proof.map(|proof| Bf16Kernels::avx512(proof, gradient));
                (bf16, emulated::<Avx512>(gradient)?)
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        };
        Some(Self {
            isa,
            features,
            layout: ActivationLayout::Nhwc,
            f32,
            bf16,
            emulated_bf16,
        })
    }

    /// The shapes of the kernels, for the plan.
    pub fn shapes(&self) -> KernelShapes {
        KernelShapes {
            layout: self.layout,
            f32: self.f32.conv.tile(),
        }
    }

    /// The name of the convolution kernel that computes in `dtype`: `<dtype>_conv_<MR>x<NR>_<isa>`.
    pub fn conv_name(&self, dtype: Dtype) -> String {
        let tile = self.shapes().tile(dtype);
        self.name(dtype, &format!("conv_{}x{}", tile.mr, tile.nr))
    }

    /// The name of another operation's kernel: `<dtype>_<operation>_<isa>`.
    pub fn name(&self, dtype: Dtype, operation: &str) -> String {
        format!("{dtype}_{operation}_{}", self.isa)
    }

    /// The tables of every tier that this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let features = Features::detect();
        Isa::available().filter_map(move |isa| Self::new(isa, features))
    }
}
