//! The pools of every tier against the reference loops.

use super::{AvgPoolLayer, MaxPoolLayer, Units};
use crate::kernels::KernelTable;
use crate::kernels::reference::{self, Tensor};
use crate::kernels::testing::{
    activations, assert_canaries, assert_close, lay_out, put, random, take,
};
use crate::shape::PoolWindow;

/// The paper's max pool.
const MAX_POOL: PoolWindow = PoolWindow {
    stride: 2,
    padding: 1,
    ..PoolWindow::new(3)
};

/// The first of `sizes`; all of them without Miri, which takes a second for some hundred elements.
fn some<T>(sizes: &[T]) -> &[T] {
    if cfg!(miri) { &sizes[..2] } else { sizes }
}

#[test]
fn pools_match_reference_on_every_tier() {
    for table in KernelTable::available() {
        for &(height, width, channels) in some(&[(1, 1, 1), (2, 5, 3), (8, 7, 16), (9, 12, 70)]) {
            let what = format!("{} {height} x {width} x {channels}", table.isa);
            // Negative values, so that padding with zeros would win.
            let x = random([2, height, width, channels], 8);
            let x = Tensor::from_fn(x.shape, |n, y, i, c| x.at(n, y, i, c) - 2.0);
            let max = reference::max_pool(&x, MAX_POOL);
            let mean = reference::global_avg_pool(&x);
            let mut views = [
                activations([2, height, width, channels], 0),
                activations([2, max.shape[1], max.shape[2], channels], 1),
                activations([2, 1, 1, channels], 0),
            ];
            let mut arena = lay_out(&mut views);
            put(&x, &views[0], &mut arena);
            let max_pool = MaxPoolLayer {
                input: views[0],
                out: views[1],
                window: Some(MAX_POOL),
            };
            let avg_pool = AvgPoolLayer {
                input: views[0],
                out: views[2],
                window: None,
                first_channel: 0,
                units: Units::SAME,
            };
            let p = arena.as_mut_ptr();
            // SAFETY: as above.
            unsafe {
                (0..max_pool.items())
                    .for_each(|item| max_pool.run_item(item, p, table.f32.pool.max));
                (0..avg_pool.items())
                    .for_each(|item| avg_pool.run_item(item, p, table.f32.pool.avg));
            }
            assert_close(&take(&views[1], &arena), &max, &what);
            assert_close(&take(&views[2], &arena), &mean, &what);
            assert_canaries(&arena, &views, &what);
        }
    }
}

#[test]
fn windowed_average_pools_match_reference_on_every_tier() {
    let window = |kernel, stride, padding, ceil_mode, count_include_pad| PoolWindow {
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        ..PoolWindow::new(kernel)
    };
    let same = PoolWindow {
        extra: 1,
        ..window(2, 1, 0, false, true)
    };
    for &window in some(&[
        window(2, 2, 0, true, false),
        window(2, 1, 0, true, false),
        window(2, 2, 1, false, true),
        window(3, 1, 1, false, true),
        window(7, 7, 0, false, true),
        same,
    ]) {
        for &(height, width, channels) in some(&[(1, 2, 5), (7, 7, 3), (8, 11, 16), (9, 12, 70)]) {
            let x = random([2, height, width, channels], 8);
            let mean = reference::avg_pool(&x, window);
            if mean.data.is_empty() {
                continue;
            }
            for table in KernelTable::available() {
                let mut views = [
                    activations([2, height, width, channels], 0),
                    activations([2, mean.shape[1], mean.shape[2], channels], 1),
                ];
                let mut arena = lay_out(&mut views);
                put(&x, &views[0], &mut arena);
                let pool = AvgPoolLayer {
                    input: views[0],
                    out: views[1],
                    window: Some(window),
                    first_channel: 0,
                    units: Units::SAME,
                };
                let p = arena.as_mut_ptr();
                // SAFETY: as above.
                unsafe {
                    (0..pool.items()).for_each(|item| pool.run_item(item, p, table.f32.pool.avg))
                };
                let what = format!("{} {height} x {width} {window:?}", table.isa);
                assert_close(&take(&views[1], &arena), &mean, &what);
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}

#[test]
fn windowed_and_global_max_pools_match_reference_on_every_tier() {
    let caffe = PoolWindow {
        stride: 2,
        ceil_mode: true,
        ..PoolWindow::new(3)
    };
    for &window in some(&[Some(caffe), None, Some(PoolWindow::new(2))]) {
        for &(height, width, channels) in some(&[(2, 3, 5), (7, 8, 3), (8, 11, 16), (9, 12, 70)]) {
            let x = random([2, height, width, channels], 8);
            let x = Tensor::from_fn(x.shape, |n, y, i, c| x.at(n, y, i, c) - 2.0);
            let max = match window {
                Some(window) => reference::max_pool(&x, window),
                None => reference::global_max_pool(&x),
            };
            for table in KernelTable::available() {
                let mut views = [
                    activations([2, height, width, channels], 0),
                    activations([2, max.shape[1], max.shape[2], channels], 1),
                ];
                let mut arena = lay_out(&mut views);
                put(&x, &views[0], &mut arena);
                let pool = MaxPoolLayer {
                    input: views[0],
                    out: views[1],
                    window,
                };
                let p = arena.as_mut_ptr();
                // SAFETY: as above.
                unsafe {
                    (0..pool.items()).for_each(|item| pool.run_item(item, p, table.f32.pool.max))
                };
                let what = format!("{} {height} x {width} {window:?}", table.isa);
                assert_eq!(take(&views[1], &arena), max, "{what}");
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}

#[test]
fn channels_are_padded_with_zeros_on_every_tier() {
    let slice = PoolWindow {
        stride: 2,
        ..PoolWindow::new(1)
    };
    let mean = PoolWindow {
        ceil_mode: true,
        ..PoolWindow::new(2)
    };
    for &window in some(&[slice, mean, PoolWindow::new(1)]) {
        for &(height, width, channels, before, after) in some(&[
            (1, 2, 3, 1, 2),
            (5, 4, 4, 0, 4),
            (7, 8, 16, 8, 8),
            (8, 9, 70, 35, 36),
            (4, 4, 9, 0, 0),
        ]) {
            let x = random([2, height, width, channels], 8);
            let expected = reference::pad_channels(&reference::avg_pool(&x, window), before, after);
            for table in KernelTable::available() {
                let mut views = [
                    activations([2, height, width, channels], 1),
                    activations(expected.shape, 1),
                ];
                let mut arena = lay_out(&mut views);
                put(&x, &views[0], &mut arena);
                let pad = AvgPoolLayer {
                    input: views[0],
                    out: views[1],
                    window: Some(window),
                    first_channel: before,
                    units: Units::SAME,
                };
                assert_eq!(pad.pads(), before + after > 0);
                let p = arena.as_mut_ptr();
                // SAFETY: as above.
                unsafe {
                    (0..pad.items()).for_each(|item| pad.run_item(item, p, table.f32.pool.avg))
                };
                let what = format!("{} {height} x {width} {window:?}", table.isa);
                let found = take(&views[1], &arena);
                assert_close(&found, &expected, &what);
                // Copies and zeros are exact.
                assert!(window.kernel > 1 || found == expected, "{what}");
                assert_canaries(&arena, &views, &what);
            }
        }
    }
}

#[test]
fn nan_comes_through_max_pool() {
    for table in KernelTable::available() {
        let mut views = [activations([1, 3, 3, 20], 0), activations([1, 2, 2, 20], 0)];
        for at in if cfg!(miri) { 8..9 } else { 0..9 } {
            let mut arena = lay_out(&mut views);
            let x = Tensor::from_fn(
                [1, 3, 3, 20],
                |_, y, x, _| {
                    if y * 3 + x == at { f64::NAN } else { 1.0 }
                },
            );
            put(&x, &views[0], &mut arena);
            let pool = MaxPoolLayer {
                input: views[0],
                out: views[1],
                window: Some(MAX_POOL),
            };
            // SAFETY: as above.
            unsafe {
                (0..pool.items())
                    .for_each(|i| pool.run_item(i, arena.as_mut_ptr(), table.f32.pool.max))
            };
            let out = take(&views[1], &arena);
            assert!(out.data.iter().any(|v| v.is_nan()), "{} at {at}", table.isa);
        }
    }
}
