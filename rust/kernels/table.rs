//! The one place that turns a tier into a set of kernels.

use super::activations::ActivationLayout;
use super::conv::bf16::Bf16Kernels;
use super::conv::f32::{ConvKernels, WeightGradientKernels};
use super::conv::int8::IntConvKernels;
use super::conv::winograd::WinogradKernels;
use super::elementwise::Elementwise;
use super::elementwise::kernel::elementwise;
use super::loss::LossKernels;
use super::norm::NormKernels;
use super::optimizer::OptimizerKernels;
use super::peak::Peak;
use super::pool::{IntPoolKernels, PoolGradients, PoolKernels};
use super::shapes::KernelShapes;
use crate::dtype::Dtype;
use crate::simd::{Activation, Dot, Features, Isa, Plain, Portable, Simd};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx2Pairs, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni, Feature};

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
    /// The kernels of int8 networks on 16-bit activations: those of fc, and of all layers without VNNI.
    pub i16: IntKernels<i16>,
    /// Those on 8-bit activations: of VNNI, or emulated for tests.
    pub u8: IntKernels<u8>,
    /// The type of the activations of int8 networks.
    pub int8: Dtype,
}

/// The kernels of int8 networks on activations of `A`.
#[derive(Clone, Copy)]
pub struct IntKernels<A: 'static> {
    /// Convolutions, and the packing of their weights.
    pub conv: IntConvKernels<A>,
    /// Pools.
    pub pool: IntPoolKernels<A>,
}

impl<A: Activation> IntKernels<A> {
    /// The kernels of `D`, or None if this machine lacks the instructions.
    fn of<D: Dot<A = A>>(conv: impl FnOnce(D) -> IntConvKernels<A>) -> Option<Self> {
        let proof = D::detect()?;
        Some(Self {
            conv: conv(proof),
            pool: IntPoolKernels::new(proof),
        })
    }
}

impl IntKernels<i16> {
    /// The kernels beside tier `isa`.
    fn of_isa(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Portable => Self::of::<Plain<i16>>(IntConvKernels::portable),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => Self::of::<Avx2Pairs>(IntConvKernels::avx2),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
    }
}

impl IntKernels<u8> {
    /// The kernels beside tier `isa`, if this machine has VNNI for it.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    fn of_isa(isa: Isa, features: Features) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let has = |feature| features.has(feature);
            match isa {
                Isa::Avx512 if has(Feature::Avx512vnni) => {
                    return Self::of::<Avx512Vnni>(IntConvKernels::avx512_vnni);
                }
                Isa::Avx2 if has(Feature::AvxVnni) => {
                    return Self::of::<AvxVnni>(IntConvKernels::avx_vnni);
                }
                _ => {}
            }
        }
        None
    }

    /// Fours in plain Rust.
    fn emulated() -> Option<Self> {
        Self::of::<Plain<i8>>(IntConvKernels::emulated)
    }
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
        let vnni = IntKernels::<u8>::of_isa(isa, features);
        Some(Self {
            isa,
            features,
            layout: ActivationLayout::Nhwc,
            f32,
            bf16,
            emulated_bf16,
            i16: IntKernels::<i16>::of_isa(isa)?,
            int8: if vnni.is_some() {
                Dtype::U8
            } else {
                Dtype::I16
            },
            u8: vnni.or_else(IntKernels::emulated)?,
        })
    }

    /// The shapes of the kernels, for the plan.
    pub fn shapes(&self) -> KernelShapes {
        KernelShapes {
            layout: self.layout,
            f32: self.f32.conv.tile(),
            i16: self.i16.conv.tile(),
            u8: self.u8.conv.tile(),
            int8: self.int8,
        }
    }

    /// The same kernels, with int8 networks on emulated 8-bit activations, for tests.
    pub fn with_emulated_fours(self) -> Option<Self> {
        Some(Self {
            u8: IntKernels::emulated()?,
            int8: Dtype::U8,
            ..self
        })
    }

    /// The name of the convolution kernel that computes in `dtype`: `<precision>_conv_<MR>x<NR>_<instructions>`.
    pub fn conv_name(&self, dtype: Dtype) -> String {
        let tile = self.shapes().tile(dtype);
        self.name(dtype, &format!("conv_{}x{}", tile.mr, tile.nr))
    }

    /// The name of another operation's kernel: `<precision>_<operation>_<instructions>`.
    pub fn name(&self, dtype: Dtype, operation: &str) -> String {
        let (precision, instructions) = match dtype {
            Dtype::F32 => ("f32", self.isa.name()),
            Dtype::I16 => ("int8", self.i16.conv.instructions),
            Dtype::U8 => ("int8", self.u8.conv.instructions),
        };
        format!("{precision}_{operation}_{instructions}")
    }

    /// The tables of every tier that this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let features = Features::detect();
        Isa::available().filter_map(move |isa| Self::new(isa, features))
    }
}
