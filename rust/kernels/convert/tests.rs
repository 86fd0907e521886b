//! Changes of type on every tier.

use half::bf16;

use super::ConvertLayer;
use crate::dtype::{Dtype, Element};
use crate::kernels::testing::{assert_canaries, lay_out};
use crate::kernels::view::View;
use crate::kernels::{ActivationLayout, IntKernels, KernelTable};
use crate::simd::Activation;

const SHAPE: [usize; 4] = [2, 2, 3, 19];

fn views(input: Dtype, out: Dtype) -> [View; 2] {
    let view = |dtype, border| ActivationLayout::Nhwc.activations(dtype, SHAPE.into(), border);
    [view(input, 0), view(out, 1)]
}

fn fill<T: Element>(view: &View, arena: &mut [u8], mut value: impl FnMut(usize) -> T) {
    for n in 0..view.batch {
        for y in 0..view.height {
            for x in 0..view.width {
                for c in 0..view.channels {
                    // SAFETY: the view lies inside the arena.
                    unsafe {
                        *view.pixel_ptr::<T>(arena.as_mut_ptr(), n, y, x).add(c) = value(x * 19 + c)
                    };
                }
            }
        }
    }
}

fn check<A: Activation>(kernels: &IntKernels<A>) {
    let factor = 0.0371;
    let mut both = views(A::DTYPE, Dtype::Bf16);
    let mut arena = lay_out(&mut both);
    fill(&both[0], &mut arena, |i| A::of((i * 5 % 256) as f32));
    let layer = ConvertLayer {
        input: both[0],
        out: both[1],
        factor,
    };
    for item in (0..layer.items()).rev() {
        // SAFETY: the views lie inside the arena, and one thread runs.
        unsafe { layer.run_item(item, arena.as_mut_ptr(), kernels.convert.to_bf16) };
    }
    for x in 0..3 {
        let pixel = both[1].pixel::<bf16>(&arena, 1, 1, x);
        for (c, found) in pixel.iter().enumerate() {
            let whole = (x * 19 + c) * 5 % 256;
            assert_eq!(*found, bf16::from_f32(whole as f32 * factor));
        }
    }
    // The place after an odd number of channels is zero.
    let place = both[1].pixel_bytes(1, 1, 2) + 19 * 2;
    assert_eq!(arena[place..place + 2], [0, 0]);
    assert_canaries(&arena, &both, "to bf16");

    let mut both = views(Dtype::Bf16, A::DTYPE);
    let mut arena = lay_out(&mut both);
    let value = |i: usize| match i {
        0 => f32::NAN,
        1 => f32::INFINITY,
        2 => f32::NEG_INFINITY,
        3 => 0.5 / factor,
        _ => (i as f32 - 20.0) * 200.0,
    };
    fill(&both[0], &mut arena, |i| bf16::from_f32(value(i)));
    let layer = ConvertLayer {
        input: both[0],
        out: both[1],
        factor,
    };
    for item in 0..layer.items() {
        // SAFETY: as above.
        unsafe { layer.run_item(item, arena.as_mut_ptr(), kernels.convert.from_bf16) };
    }
    for x in 0..3 {
        let pixel = both[1].pixel::<A>(&arena, 0, 1, x);
        for (c, &found) in pixel.iter().enumerate() {
            let value = bf16::from_f32(value(x * 19 + c)).to_f32() * factor;
            let expected = if value.is_nan() {
                0.0
            } else {
                value.clamp(0.0, 255.0)
            };
            let found: i32 = found.into();
            assert_eq!(found, expected.round_ties_even() as i32, "{value}");
        }
    }
    assert_canaries(&arena, &both, "from bf16");
}

#[test]
fn values_are_scaled_and_rounded_once() {
    for table in KernelTable::available() {
        check(&table.i16);
        check(&table.u8);
    }
}
