//! The one place that turns a tier into a set of kernels.

use half::bf16;

use super::activations::ActivationLayout;
use super::conv::dot::DotKernels;
use super::conv::f32::{ConvKernels, WeightGradientKernels};
use super::conv::int8::IntPack;
use super::conv::mixed::{MixedKernels, RoundRow, RoundRowArgs, round_row};
use super::conv::winograd::WinogradKernels;
use super::convert::ConvertKernels;
use super::elementwise::Elementwise;
use super::elementwise::kernel::elementwise;
use super::loss::LossKernels;
use super::norm::NormKernels;
use super::optimizer::OptimizerKernels;
use super::peak::Peak;
use super::pool::{IntPoolKernels, PoolGradients, PoolKernels};
use super::shapes::KernelShapes;
use crate::dtype::Dtype;
use crate::simd::{
    Activation, Bf16, Bf16Pairs, Dot, Emulated, Features, IntDot, Isa, Plain, Portable, Simd,
};
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx2Pairs, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni, Feature, WidenedAvx2};

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
    /// Products in bf16 for training, if this machine has the instructions beside the tier.
    pub mixed: Option<MixedKernels>,
    /// The same emulated, for tests: slow.
    pub emulated_mixed: MixedKernels,
    /// The kernels of bf16 networks: of the processor's instructions, or widened to f32.
    pub bf16: Bf16Kernels,
    /// The speed of bf16 networks here.
    pub bf16_speed: Bf16Speed,
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
    /// Convolutions.
    pub conv: DotKernels<A>,
    /// The packing of their weights.
    pub pack: IntPack,
    /// Pools.
    pub pool: IntPoolKernels<A>,
    /// Changes of type, between them and bf16.
    pub convert: ConvertKernels<A>,
    /// The loop whose speed is the instruction's peak.
    pub peak: Peak,
}

impl<A: Activation> IntKernels<A> {
    /// The kernels of `D`, or None if this machine lacks the instructions.
    fn of<D: IntDot<A = A>>(conv: impl FnOnce(D) -> DotKernels<A>) -> Option<Self> {
        let proof = D::detect()?;
        Some(Self {
            conv: conv(proof),
            pack: IntPack::new(proof),
            pool: IntPoolKernels::new(proof),
            convert: ConvertKernels::new(proof),
            peak: Peak::of_groups(proof),
        })
    }
}

impl IntKernels<i16> {
    /// The kernels beside tier `isa`.
    fn of_isa(isa: Isa) -> Option<Self> {
        match isa {
            Isa::Portable => Self::of::<Plain<i16>>(DotKernels::<i16>::portable),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => Self::of::<Avx2Pairs>(DotKernels::<i16>::avx2),
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
                    return Self::of::<Avx512Vnni>(DotKernels::avx512_vnni);
                }
                Isa::Avx2 if has(Feature::AvxVnni) => {
                    return Self::of::<AvxVnni>(DotKernels::avx_vnni);
                }
                _ => {}
            }
        }
        None
    }

    /// Fours in plain Rust.
    fn emulated() -> Option<Self> {
        Self::of::<Plain<i8>>(DotKernels::<u8>::emulated)
    }
}

/// The speed of bf16 networks beside f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Speed {
    /// The processor's instruction does twice the work of f32's.
    Fast,
    /// The processor's instruction does half the work of f32's.
    Slow,
    /// There is no instruction: pairs are widened to f32.
    Widened,
}

/// The kernels of bf16 networks.
#[derive(Clone, Copy)]
pub struct Bf16Kernels {
    /// Convolutions.
    pub conv: DotKernels<bf16>,
    /// The rounding of rows of f32 weights to pairs.
    round: RoundRow,
    /// Pools.
    pub pool: PoolKernels<bf16>,
    /// Batch norm, addition and ReLU of a row.
    pub elementwise: Elementwise<bf16>,
    /// The loop whose speed is the instruction's peak.
    pub peak: Peak,
}

impl Bf16Kernels {
    /// The kernels of `B`, or None if this machine lacks the instructions.
    fn of<B: Bf16>(conv: impl FnOnce(Bf16Pairs<B>) -> DotKernels<bf16>) -> Option<Self> {
        let proof = Bf16Pairs::<B>::detect()?;
        Some(Self {
            conv: conv(proof),
            round: round_row::<B>,
            pool: PoolKernels::new(proof),
            elementwise: elementwise::<Bf16Pairs<B>>,
            peak: Peak::of_groups(proof),
        })
    }

    /// Rounds a packed f32 panel, whose rows of weights are whole pairs, to bf16; the biases stay f32.
    ///
    /// # Panics
    /// If `to` is not as long as the bf16 panel of as many rows.
    pub fn round_panel(&self, from: &[f32], to: &mut [f32]) {
        let nr = self.conv.tile().nr;
        let rows = from.len() / nr - 1;
        assert!(from.len().is_multiple_of(nr) && to.len() == nr * (1 + rows.div_ceil(2)));
        let (biases, pairs) = to.split_at_mut(nr);
        biases.copy_from_slice(&from[..nr]);
        let args = RoundRowArgs {
            from: from[nr..].as_ptr(),
            rows,
            to: pairs.as_mut_ptr().cast(),
        };
        // SAFETY: `self` proves the instructions; the panels have the rows.
        unsafe { (self.round)(&args) };
    }

    /// The kernels beside tier `isa`.
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
    fn of_isa(isa: Isa, features: Features) -> Option<Self> {
        match isa {
            Isa::Portable => Self::of::<Emulated<Portable>>(DotKernels::<bf16>::emulated),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 if features.has(Feature::Avx512bf16) => {
                Self::of::<Avx512Bf16>(DotKernels::<bf16>::avx512)
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 | Isa::Avx512 => Self::of::<WidenedAvx2>(DotKernels::<bf16>::avx2),
            #[cfg(not(target_arch = "x86_64"))]
            _ => None,
        }
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
    pub elementwise: Elementwise<f32>,
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
fn emulated<S: Simd>(f32: WeightGradientKernels) -> Option<MixedKernels> {
    S::detect().map(|proof| MixedKernels::emulated(proof, f32))
}

impl KernelTable {
    /// The kernels of `isa`, or `None` if this machine lacks it. Kernels of a tier that need more
    /// than the tier's own instructions are chosen here, by `features`: those of bf16 and int8.
    pub fn new(isa: Isa, features: Features) -> Option<Self> {
        let f32 = F32Kernels::of_isa(isa)?;
        let gradient = f32.weight_gradient;
        let (mixed, emulated_mixed) = match isa {
            Isa::Portable => (None, emulated::<Portable>(gradient)?),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => (None, emulated::<Avx2>(gradient)?),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                let proof = Avx512Bf16::detect().filter(|_| features.has(Feature::Avx512bf16));
                let mixed = proof.map(|proof| MixedKernels::avx512(proof, gradient));
                (mixed, emulated::<Avx512>(gradient)?)
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
            mixed,
            emulated_mixed,
            bf16: Bf16Kernels::of_isa(isa, features)?,
            // `vdpbf16ps` on AMD's processors (Zen 4 and 5) and on Intel's (measured on Xeons of three generations).
            bf16_speed: match mixed {
                Some(_) if features.is_amd() => Bf16Speed::Fast,
                Some(_) => Bf16Speed::Slow,
                None => Bf16Speed::Widened,
            },
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
            bf16: self.bf16.conv.tile(),
            i16: self.i16.conv.tile(),
            u8: self.u8.conv.tile(),
            int8: self.int8,
        }
    }

    /// The same kernels, with pairs of bf16 widened to f32, whose sums are the same bits on every processor.
    pub fn with_widened_bf16(self) -> Self {
        #[cfg(target_arch = "x86_64")]
        if self.bf16_speed != Bf16Speed::Widened
            && let Some(bf16) = Bf16Kernels::of::<WidenedAvx2>(DotKernels::<bf16>::avx2)
        {
            let bf16_speed = Bf16Speed::Widened;
            return Self {
                bf16,
                bf16_speed,
                ..self
            };
        }
        self
    }

    /// The same kernels, with int8 networks on emulated 8-bit activations, for tests.
    pub fn with_emulated_fours(self) -> Option<Self> {
        Some(Self {
            u8: IntKernels::emulated()?,
            int8: Dtype::U8,
            ..self
        })
    }

    /// The loop whose speed is the peak of kernels that compute in `dtype`.
    pub fn peak(&self, dtype: Dtype) -> Peak {
        match dtype {
            Dtype::F32 => self.f32.peak,
            Dtype::Bf16 => self.bf16.peak,
            Dtype::I16 => self.i16.peak,
            Dtype::U8 => self.u8.peak,
        }
    }

    /// The name of the convolution kernel that computes in `dtype`: `<precision>_conv_<MR>x<NR>_<instructions>`.
    pub fn conv_name(&self, dtype: Dtype) -> String {
        let tile = self.shapes().tile(dtype);
        self.name(dtype, &format!("conv_{}x{}", tile.mr, tile.nr))
    }

    /// The name of another operation's kernel: `<precision>_<operation>_<instructions>`.
    pub fn name(&self, dtype: Dtype, operation: &str) -> String {
        let instructions = match dtype {
            Dtype::F32 => self.isa.name(),
            Dtype::Bf16 => self.bf16.conv.instructions,
            Dtype::I16 => self.i16.conv.instructions,
            Dtype::U8 => self.u8.conv.instructions,
        };
        format!("{}_{operation}_{instructions}", dtype.precision())
    }

    /// The tables of every tier that this machine has, slowest first.
    pub fn available() -> impl Iterator<Item = Self> {
        let features = Features::detect();
        Isa::available().filter_map(move |isa| Self::new(isa, features))
    }
}
