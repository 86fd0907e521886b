//! Elementwise layers of every tier against the same arithmetic in f64.

use super::ElementwiseLayer;
use crate::kernels::KernelTable;
use crate::kernels::reference::Tensor;
use crate::kernels::testing::{
    activations, assert_canaries, assert_close, lay_out, put, random, take,
};

/// The shape of all tensors; Miri takes a second for some hundred elements.
const SHAPE: [usize; 4] = if cfg!(miri) {
    [2, 1, 2, 5]
} else {
    [2, 3, 5, 37]
};

#[test]
fn norm_sum_and_relu_match_reference_on_every_tier() {
    let channels = SHAPE[3];
    let (a, b) = (random(SHAPE, 1), random(SHAPE, 2));
    let weights: Vec<f32> = (0..2 * channels)
        .map(|i| ((i * 17 % 74) as f32 - 30.0) / 20.0)
        .collect();
    let (scale, shift) = weights.split_at(channels);
    for table in KernelTable::available() {
        for (with_norm, with_b, with_relu) in [
            (true, false, false),
            (false, true, false),
            (false, false, true),
            (true, true, true),
        ] {
            let view = |border| activations(SHAPE, border);
            let mut views = [view(0), view(0), view(1)];
            let mut arena = lay_out(&mut views);
            put(&a, &views[0], &mut arena);
            put(&b, &views[1], &mut arena);
            let layer = ElementwiseLayer {
                a: views[0],
                norm_bytes: with_norm.then_some(0),
                b: with_b.then_some(views[1]),
                relu: with_relu,
                out: views[2],
            };
            for item in 0..layer.items() {
                // SAFETY: as above.
                unsafe {
                    let weights = bytemuck::cast_slice(&weights);
                    layer.run_item(item, arena.as_mut_ptr(), weights, table.f32.elementwise);
                }
            }
            let expected = Tensor::from_fn(a.shape, |n, y, x, c| {
                let mut value = a.at(n, y, x, c);
                if with_norm {
                    value = value * f64::from(scale[c]) + f64::from(shift[c]);
                }
                if with_b {
                    value += b.at(n, y, x, c);
                }
                if with_relu { value.max(0.0) } else { value }
            });
            let what = format!("{} {with_norm} {with_b} {with_relu}", table.isa);
            assert_close(&take(&views[2], &arena), &expected, &what);
            assert_canaries(&arena, &views, &what);
        }
    }
}
