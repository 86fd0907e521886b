//! The pools' gradients of every tier against the reference loops.

use super::{AvgPoolGradient, MaxPoolGradient, NormBytes};
use crate::kernels::KernelTable;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::testing::{
    Arena, activations, assert_canaries, assert_close, lay_out, put, random, take,
};
use crate::kernels::view::View;
use crate::shape::PoolWindow;

/// The paper's max pool, whose windows overlap.
const MAX_POOL: PoolWindow = PoolWindow {
    stride: 2,
    padding: 1,
    ..PoolWindow::new(3)
};

/// Windows with gaps, without, and with overlaps; some begin or end beyond the image.
const WINDOWS: [PoolWindow; 6] = [
    MAX_POOL,
    PoolWindow {
        stride: 2,
        ceil_mode: true,
        ..PoolWindow::new(3)
    },
    PoolWindow::new(2),
    PoolWindow {
        stride: 3,
        ..PoolWindow::new(2)
    },
    PoolWindow {
        stride: 1,
        extra: 1,
        ..PoolWindow::new(2)
    },
    PoolWindow {
        stride: 1,
        padding: 2,
        count_include_pad: true,
        ..PoolWindow::new(5)
    },
];

/// `[batch, height, width, channels]`.
const SHAPES: [[usize; 4]; 5] = [
    [1, 2, 3, 5],
    [1, 1, 1, 1],
    [3, 7, 6, 3],
    [2, 8, 11, 16],
    [1, 9, 12, 70],
];

/// The first two of `sizes`, or all of them without Miri, which takes a second for some hundred elements.
fn some<T>(sizes: &[T]) -> &[T] {
    if cfg!(miri) { &sizes[..2] } else { sizes }
}

/// Each window, and then none, with its output of an image `[batch, height, width, channels]`, if
/// there is one.
fn outputs([batch, height, width, channels]: [usize; 4]) -> Vec<(Option<PoolWindow>, [usize; 4])> {
    let windowed = some(&WINDOWS).iter().map(|&w| {
        (
            Some(w),
            [batch, w.output(height), w.output(width), channels],
        )
    });
    windowed
        .chain([(None, [batch, 1, 1, channels])])
        .filter(|(_, shape)| !shape.contains(&0))
        .collect()
}

/// Values with many equals among neighbours, all below zero.
fn with_ties(shape: [usize; 4]) -> Tensor {
    let x = random(shape, 3);
    Tensor::from_fn(shape, |n, y, i, c| (x.at(n, y, i, c) * 2.0).round() - 4.0)
}

/// A border's bytes of `view`, for an assertion that they stay.
fn border(view: &View, arena: &Arena) -> Vec<u8> {
    (0..view.batch)
        .flat_map(|n| view.border_runs(n).flatten())
        .map(|i| arena[i])
        .collect()
}

#[test]
fn max_pool_gradients_match_reference_on_every_tier() {
    for &shape in some(&SHAPES) {
        let x = with_ties(shape);
        for (window, out) in outputs(shape) {
            let gradient = random(out, 4);
            let expected = reference::max_pool_gradient(&x, &gradient, window);
            for table in KernelTable::available() {
                let what = format!("{} {shape:?} {window:?}", table.isa);
                let mut views = [
                    activations(shape, 0),
                    activations(out, 1),
                    activations(shape, 1),
                ];
                let mut arena = lay_out(&mut views);
                put(&x, &views[0], &mut arena);
                put(&gradient, &views[1], &mut arena);
                let before = border(&views[2], &arena);
                let layer = MaxPoolGradient {
                    input: views[0],
                    norm: None,
                    out_gradient: views[1],
                    in_gradient: views[2],
                    window,
                };
                // Backwards: the order of the items does not matter.
                for item in (0..layer.items()).rev() {
                    // SAFETY: the views lie inside the arena, and the table proves the tier.
                    unsafe {
                        layer.run_item(item, arena.as_mut_ptr(), table.f32.pool_gradients.max);
                    }
                }
                assert_close(&take(&views[2], &arena), &expected, &what);
                assert_eq!(border(&views[2], &arena), before, "{what}");
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}

#[test]
fn max_pool_gradients_compare_what_norm_and_relu_make_of_the_input() {
    for &shape in some(&SHAPES) {
        let channels = shape[3];
        let y = random(shape, 5);
        // Negative factors too. About half of the results are negative, so that many zeros are equal.
        let scale = Tensor::from_fn([1, 1, 1, channels], |_, _, _, c| (c % 5) as f64 - 2.25);
        let shift = random([1, 1, 1, channels], 6);
        let x = Tensor::from_fn(shape, |n, i, j, c| {
            (y.at(n, i, j, c) * scale.data[c] + shift.data[c]).max(0.0)
        });
        for (window, out) in outputs(shape) {
            let gradient = random(out, 7);
            let expected = reference::max_pool_gradient(&x, &gradient, window);
            for table in KernelTable::available() {
                let what = format!("{} {shape:?} {window:?}", table.isa);
                let mut views = [
                    activations(shape, 0),
                    activations(out, 0),
                    activations(shape, 0),
                    activations(scale.shape, 0),
                    activations(scale.shape, 0),
                ];
                let mut arena = lay_out(&mut views);
                put(&y, &views[0], &mut arena);
                put(&gradient, &views[1], &mut arena);
                put(&scale, &views[3], &mut arena);
                put(&shift, &views[4], &mut arena);
                let layer = MaxPoolGradient {
                    input: views[0],
                    norm: Some(NormBytes {
                        scale_bytes: views[3].offset_bytes,
                        shift_bytes: views[4].offset_bytes,
                    }),
                    out_gradient: views[1],
                    in_gradient: views[2],
                    window,
                };
                for item in 0..layer.items() {
                    // SAFETY: as above; the arrays have a value for each channel.
                    unsafe {
                        layer.run_item(item, arena.as_mut_ptr(), table.f32.pool_gradients.max);
                    }
                }
                assert_close(&take(&views[2], &arena), &expected, &what);
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}

/// The places that torch's `max_pool2d` and `adaptive_max_pool2d` return for this image, in both of its
/// memory formats.
#[test]
fn a_windows_winner_is_torchs() {
    const NAN: f64 = f64::NAN;
    let image = [
        [1.0, 2.0, 2.0, NAN, 0.0],
        [2.0, 2.0, 1.0, 3.0, NAN],
        [0.0, NAN, NAN, 5.0, 1.0],
        [9.0, 9.0, 9.0, 9.0, 9.0],
    ];
    let infinite = [[f64::NEG_INFINITY; 5]; 4];
    for (image, window, winners) in [
        (image, Some(MAX_POOL), vec![1, 3, 9, 11, 12, 9]),
        (image, None, vec![12]),
        (infinite, Some(MAX_POOL), vec![0, 1, 3, 5, 6, 8]),
        (infinite, None, vec![0]),
    ] {
        let x = Tensor::from_fn([1, 4, 5, 18], |_, y, x, _| image[y][x]);
        let out = match window {
            Some(_) => [1, 2, 3, 18],
            None => [1, 1, 1, 18],
        };
        let ones = Tensor::from_fn(out, |_, _, _, _| 1.0);
        let expected = Tensor::from_fn(x.shape, |_, y, x, _| {
            winners.iter().filter(|&&k| k == y * 5 + x).count() as f64
        });
        assert_eq!(
            reference::max_pool_gradient(&x, &ones, window),
            expected,
            "{window:?}"
        );
        for table in KernelTable::available() {
            let mut views = [
                activations(x.shape, 0),
                activations(out, 0),
                activations(x.shape, 0),
            ];
            let mut arena = lay_out(&mut views);
            put(&x, &views[0], &mut arena);
            put(&ones, &views[1], &mut arena);
            let layer = MaxPoolGradient {
                input: views[0],
                norm: None,
                out_gradient: views[1],
                in_gradient: views[2],
                window,
            };
            for item in 0..layer.items() {
                // SAFETY: as above.
                unsafe { layer.run_item(item, arena.as_mut_ptr(), table.f32.pool_gradients.max) };
            }
            assert_eq!(
                take(&views[2], &arena),
                expected,
                "{} {window:?}",
                table.isa
            );
        }
    }
}

#[test]
fn avg_pool_gradients_match_reference_on_every_tier() {
    for &shape in some(&SHAPES) {
        let [batch, height, width, channels] = shape;
        for (window, out) in outputs(shape) {
            for (before, after, accumulate) in [(0, 0, false), (0, 0, true), (3, 5, false)] {
                // The gradients of the channels of zeros go nowhere.
                let padded = random([out[0], out[1], out[2], before + channels + after], 8);
                let gradient = Tensor::from_fn(out, |n, y, x, c| padded.at(n, y, x, before + c));
                let old = random([batch, height, width, channels], 9);
                let mut expected = reference::avg_pool_gradient(shape, &gradient, window);
                if accumulate {
                    expected = reference::add(&old, &expected);
                }
                for table in KernelTable::available() {
                    let what = format!("{} {shape:?} {window:?} {before}", table.isa);
                    let mut views = [activations(padded.shape, 1), activations(shape, 1)];
                    let mut arena = lay_out(&mut views);
                    put(&padded, &views[0], &mut arena);
                    if accumulate {
                        put(&old, &views[1], &mut arena);
                    }
                    let border_before = border(&views[1], &arena);
                    let layer = AvgPoolGradient {
                        out_gradient: views[0],
                        in_gradient: views[1],
                        window,
                        first_channel: before,
                        accumulate,
                    };
                    for item in (0..layer.items()).rev() {
                        // SAFETY: as above.
                        unsafe {
                            layer.run_item(item, arena.as_mut_ptr(), table.f32.pool_gradients.avg);
                        }
                    }
                    assert_close(&take(&views[1], &arena), &expected, &what);
                    assert_eq!(border(&views[1], &arena), border_before, "{what}");
                    assert_canaries(&arena, &views, &what);
                }
            }
        }
    }
}

#[cfg_attr(miri, ignore = "no unsafe code, and slow")]
#[test]
fn gradients_are_those_of_finite_differences() {
    // The pools are linear around a point without ties, so that a finite step gives the gradient.
    let (shape, step) = ([2, 5, 7, 3], 1e-6);
    let x = random(shape, 10);
    let check = |forward: &dyn Fn(&Tensor) -> Tensor, gradient: &dyn Fn(&Tensor) -> Tensor| {
        let out = forward(&x);
        let direction = random(out.shape, 11);
        let gradient = gradient(&direction);
        for i in 0..x.data.len() {
            let along = |step: f64| -> f64 {
                let mut x = x.clone();
                x.data[i] += step;
                let pairs = forward(&x).data.into_iter().zip(&direction.data);
                pairs.map(|(a, b)| a * b).sum()
            };
            let difference = (along(step) - along(-step)) / (2.0 * step);
            assert!((gradient.data[i] - difference).abs() < 1e-8);
        }
    };
    for &window in some(&WINDOWS) {
        check(&|x| reference::max_pool(x, window), &|out| {
            reference::max_pool_gradient(&x, out, Some(window))
        });
        check(&|x| reference::avg_pool(x, window), &|out| {
            reference::avg_pool_gradient(shape, out, Some(window))
        });
    }
    check(&reference::global_max_pool, &|out| {
        reference::max_pool_gradient(&x, out, None)
    });
    check(&reference::global_avg_pool, &|out| {
        reference::avg_pool_gradient(shape, out, None)
    });
}
