//! A layer's convolutions as one matrix product.

use resnet_rs::graph::layer::{ConvSpec, Layer};
use resnet_rs::kernels::view::View;

/// M, K and N of the product; a shortcut's K is added.
#[derive(Clone, Copy, PartialEq)]
pub struct Size {
    /// Output pixels.
    pub m: usize,
    /// Elements of a window.
    pub k: usize,
    /// Output channels.
    pub n: usize,
}

impl Size {
    /// The size of a layer with this output; None for pools.
    pub fn of(layer: &Layer, out: &View) -> Option<Self> {
        layer.convs().next()?;
        Some(Self {
            m: out.batch * out.height * out.width,
            k: layer.convs().map(ConvSpec::window_len).sum(),
            n: out.channels,
        })
    }

    /// Two for each multiply-accumulate of the direct convolution, whatever the algorithm does.
    pub fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.k as f64 * self.n as f64
    }
}
