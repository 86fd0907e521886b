//! Packing of int8 weights into panels, once, at load.

use bytemuck::Pod;

use crate::simd::{Finish, IntDot, Simd};

/// Values of a channel before its weights: bias, multiplier, ratio of the residual.
const HEADER: usize = 3;

/// The values before a panel's weights, for its channels.
pub struct PanelValues<'a> {
    /// The sums' first value.
    pub bias: &'a [i32],
    /// From a sum to the result.
    pub multiplier: &'a [f32],
    /// From the residual to the result.
    pub ratio: f32,
}

type Pack = fn(&[(&[i8], usize)], &PanelValues, &mut [i32]);

/// The packing of panels for one tier.
#[derive(Clone, Copy)]
pub struct IntPack(Pack);

impl IntPack {
    /// For the kernels of `D`.
    pub(in crate::kernels) fn new<D: IntDot>(_proof: D) -> Self {
        Self(pack::<D>)
    }

    /// Packs the panel of up to NR output channels.
    ///
    /// - `weights`: the matrices `[channels, k_i]`, row-major, that are summed, one for each segment of the
    ///   convolution; k_i is whole groups.
    /// - `panel`: the panel's places, all written; surplus channels are zero.
    ///
    /// # Panics
    /// If a length does not fit the others.
    pub fn panel(&self, weights: &[(&[i8], usize)], values: &PanelValues, panel: &mut [i32]) {
        self.0(weights, values, panel);
    }
}

fn pack<D: IntDot>(weights: &[(&[i8], usize)], values: &PanelValues, panel: &mut [i32]) {
    const { assert!(<D::F as Finish<D::S>>::HEADER == HEADER) };
    let nr = 2 * D::S::LANES;
    // SAFETY: only a proof that this machine has the instructions makes an `IntPack`.
    let d = unsafe { D::assume() };
    d.vectorize(
        #[inline(always)]
        || pack_groups::<D::W>(weights, values, nr, panel),
    );
}

#[inline(always)]
fn pack_groups<W: Pod + From<i8>>(
    weights: &[(&[i8], usize)],
    values: &PanelValues,
    nr: usize,
    panel: &mut [i32],
) {
    let depth = size_of::<i32>() / size_of::<W>();
    let channels = values.bias.len();
    let (header, groups) = panel.split_at_mut(HEADER * nr);
    header.fill(0);
    header[..channels].copy_from_slice(values.bias);
    for (c, multiplier) in values.multiplier.iter().enumerate() {
        header[nr + c] = multiplier.to_bits().cast_signed();
        header[2 * nr + c] = values.ratio.to_bits().cast_signed();
    }
    let mut rest: &mut [W] = bytemuck::cast_slice_mut(groups);
    for (matrix, k) in weights {
        assert!(matrix.len() == channels * k && k.is_multiple_of(depth));
        let (mine, next) = rest.split_at_mut(nr * k);
        for (g, group) in mine.chunks_exact_mut(nr * depth).enumerate() {
            let (inside, beyond) = group.split_at_mut(channels * depth);
            for (c, places) in inside.chunks_exact_mut(depth).enumerate() {
                let from = &matrix[c * k + g * depth..][..depth];
                for (place, &weight) in places.iter_mut().zip(from) {
                    *place = W::from(weight);
                }
            }
            beyond.fill(W::zeroed());
        }
        rest = next;
    }
    assert!(rest.is_empty());
}
