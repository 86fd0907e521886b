//! Products of points and gradients of biases of every tier against the reference loops.

use super::{BiasGradient, WeightGradient, packed_len, panel_len};
use crate::dtype::Dtype;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::reference_gradients::{conv2d_weight_gradient, sum_pixels};
use crate::kernels::testing::{
    CANARY, activations, assert_canaries, assert_close, lay_out, put, random,
};
use crate::kernels::testing_packed::{FIRST, Packed};
use crate::kernels::view::View;
use crate::kernels::{ActivationLayout, KernelTable};
use crate::shape::Window;

/// The window of one pixel.
const PIXEL: Window = Window {
    kernel: 1,
    stride: 1,
    padding: 0,
    dilation: 1,
};

/// Products of matrices, in blocks of rows as they come; the gradient by a convolution of one pixel is such
/// a product.
#[test]
fn products_of_points_match_reference_on_every_tier() {
    let cases = [
        ([4, 9, 5, 7], vec![9]),
        ([16, 3, 40, 70], vec![2, 1]),
        ([36, 150, 17, 33], vec![70, 64, 16]),
    ];
    let cases = if cfg!(miri) { &cases[..1] } else { &cases[..] };
    for table in KernelTable::available() {
        for ([points, rows, k, channels], blocks) in cases {
            let what = format!("{} {points} {k} {channels} {blocks:?}", table.isa);
            let [a, b] = [
                random([*points, 1, *rows, *k], 1),
                random([*points, 1, *rows, *channels], 2),
            ];
            let shape = [table.f32.conv.mr(), table.f32.conv.nr()];
            let part_len = packed_len(*channels, *k, shape[1]);
            let mut result = vec![CANARY; FIRST + points * part_len + FIRST];
            let mut first = 0;
            for &count in blocks {
                // The places are those of the first block, which is the largest.
                let place = |columns| {
                    ActivationLayout::Nhwc.matrices(Dtype::F32, *points, blocks[0], columns)
                };
                let mut places = [place(*k), place(*channels)];
                let mut arena = lay_out(&mut places);
                let views = places.map(|view| View {
                    width: count,
                    ..view
                });
                for (tensor, view) in [&a, &b].into_iter().zip(&views) {
                    let shape = [*points, 1, count, view.channels];
                    let block = Tensor::from_fn(shape, |n, y, x, c| tensor.at(n, y, first + x, c));
                    put(&block, view, &mut arena);
                }
                let step = WeightGradient::of_points(views[0], views[1], first > 0, shape);
                assert_eq!((step.part_len(), step.parts()), (part_len, 1), "{what}");
                let mut scratch = vec![CANARY; step.scratch_bytes() / size_of::<f32>()];
                for item in (0..step.items()).rev() {
                    let out = result[FIRST..].as_mut_ptr();
                    let kernels = &table.f32.weight_gradient;
                    // SAFETY: the views lie inside the arena, and the result has room for all points.
                    unsafe {
                        step.run_item(item, arena.as_mut_ptr(), out, scratch.as_mut_ptr(), kernels);
                    }
                }
                assert_canaries(&arena, &places, &what);
                first += count;
            }
            let packed = Packed::new([*k, *channels], 1, 1, shape[1]);
            for point in 0..*points {
                let [a, b] = [&a, &b].map(|all| {
                    let shape = [1, 1, *rows, all.shape[3]];
                    Tensor::from_fn(shape, |_, y, x, c| all.at(point, y, x, c))
                });
                let expected = conv2d_weight_gradient(&a, &b, PIXEL, 1);
                let mut own = vec![CANARY; FIRST + part_len + FIRST];
                let at = FIRST + point * part_len;
                own[FIRST..FIRST + part_len].copy_from_slice(&result[at..at + part_len]);
                assert_close(&packed.take(&own, expected.shape, &what), &expected, &what);
            }
            let around = result[..FIRST]
                .iter()
                .chain(&result[FIRST + points * part_len..]);
            assert!(
                around.into_iter().all(|x| x.is_nan()),
                "{what}: wrote outside"
            );
        }
    }
}

#[test]
fn bias_gradients_are_the_sums_over_pixels() {
    for table in KernelTable::available() {
        for (batch, channels, accumulate) in
            [(1, 1, false), (3, 33, true), (3, 70, false), (2, 16, true)]
        {
            let what = format!("{} {batch} {channels} {accumulate}", table.isa);
            // More than a block of pixels, but for Miri.
            let side = if cfg!(miri) { 2 } else { 17 };
            let (nr, k) = (table.f32.conv.nr(), 5);
            let gradient = random([batch, side, side, channels], 1);
            let mut views = [activations(gradient.shape, 1)];
            let mut arena = lay_out(&mut views);
            put(&gradient, &views[0], &mut arena);
            let step = BiasGradient {
                gradient: views[0],
                first: FIRST,
                k,
                nr,
                accumulate,
            };
            let old = random([1, 1, 1, channels], 2);
            let place = |o: usize| FIRST + o / nr * panel_len(k, nr) + o % nr;
            let mut gradients = vec![CANARY; FIRST + packed_len(channels, k, nr) + FIRST];
            if accumulate {
                old.data
                    .iter()
                    .enumerate()
                    .for_each(|(o, &x)| gradients[place(o)] = x as f32);
            }
            for item in (0..step.items()).rev() {
                // SAFETY: the view lies inside the arena, and the gradients hold all panels.
                unsafe { step.run_item(item, arena.as_mut_ptr(), gradients.as_mut_ptr()) };
            }
            let sums = Tensor {
                shape: old.shape,
                data: sum_pixels(&gradient),
            };
            let expected = if accumulate {
                reference::add(&old, &sums)
            } else {
                sums
            };
            let found = Tensor::from_fn(old.shape, |_, _, _, o| f64::from(gradients[place(o)]));
            assert_close(&found, &expected, &what);
            (0..channels).for_each(|o| gradients[place(o)] = CANARY);
            assert!(
                gradients.iter().all(|x| x.is_nan()),
                "{what}: wrote outside"
            );
            assert_canaries(&arena, &views, &what);
        }
    }
}
