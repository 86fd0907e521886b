//! The shapes of a tier's kernels, which are all that a plan needs to know about them.

use super::activations::ActivationLayout;
use super::conv::TileShape;
use crate::dtype::Dtype;

/// A tier's layout of activations, and its register tile for each dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelShapes {
    /// The layout of the tensors between layers.
    pub layout: ActivationLayout,
    /// The tile of the f32 convolution.
    pub f32: TileShape,
    /// The tile of the bf16 convolution.
    pub bf16: TileShape,
    /// The tile of the int8 convolution on 16-bit activations.
    pub i16: TileShape,
    /// The tile of the int8 convolution on 8-bit activations.
    pub u8: TileShape,
    /// The type of the activations of int8 networks.
    pub int8: Dtype,
}

impl KernelShapes {
    /// The tile of the convolution that computes in `dtype`.
    pub fn tile(&self, dtype: Dtype) -> TileShape {
        match dtype {
            Dtype::F32 => self.f32,
            Dtype::Bf16 => self.bf16,
            Dtype::I16 => self.i16,
            Dtype::U8 => self.u8,
        }
    }
}
